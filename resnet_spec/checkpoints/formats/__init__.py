"""Readers and writers of checkpoint formats, one module for each: ``read(path)`` and ``write(path, tensors, metadata)``.

They never execute code from a file, need none of the frameworks, and hold one array in memory at a time.
"""
