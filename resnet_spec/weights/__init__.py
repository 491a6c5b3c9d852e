"""Canonical weights: PyTorch's names and layouts in NumPy, and how initial values are drawn."""
