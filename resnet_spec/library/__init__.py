"""Find and load networks: the bundled specs, files, and the index of costs."""
