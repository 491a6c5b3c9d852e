"""Checkpoint files of each kind: ``read(path)`` and ``write(path, tensors, metadata)`` in a file for each.

None executes anything that a file holds, none needs a framework, and none holds more than one array in memory.
"""
