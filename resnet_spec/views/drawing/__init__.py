"""A network as a drawing: what is drawn, where it stands, and how it is written to a file."""
