"""How other libraries name and lay out the weights of a network: one small YAML table for each dialect.

A table names a layer by its role, such as the second convolution of a block's branch, so it works for every network,
whatever names the network itself uses.
"""
