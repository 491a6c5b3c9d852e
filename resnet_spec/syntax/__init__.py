"""YAML text to located nodes: every value keeps its file, line and column."""
