"""Checkpoint formats: a module for each has ``read(path)``, ``write(path, tensors, metadata)``, or both.

They never execute code from a file, need none of the frameworks, and hold one array in memory at a time.
"""
