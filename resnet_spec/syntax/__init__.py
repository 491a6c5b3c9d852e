"""YAML text to nodes: every value keeps its file, line and column."""
