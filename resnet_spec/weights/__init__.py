"""Canonical weights: NumPy arrays with PyTorch's names and layouts, and their initialization."""
