"""Prepare pictures as the input of a network, as its weights need it, and name the classes that it predicts."""
