"""Write a network as the source of a Python module that needs its framework alone."""
