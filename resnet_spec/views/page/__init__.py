"""A network as one self-contained web page with drawing, table and YAML, and a server that keeps it up to date."""
