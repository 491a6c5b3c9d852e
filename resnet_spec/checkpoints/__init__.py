"""Checkpoint files: formats, naming conventions of other libraries, conversion and identification."""
