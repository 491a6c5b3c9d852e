"""Load networks from files and from the bundled specs, and the index of the bundled networks."""
