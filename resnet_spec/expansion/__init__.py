"""Spec to Network: resolve names, repeat blocks, infer shapes, collect every problem."""
