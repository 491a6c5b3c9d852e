"""Checkpoints and networks: whether one fits the other, in whose names, and carrying weights between files."""
