"""How others name and lay out the weights of a network: small tables (YAML), and what reads them.

A table says how a peer names a layer by the part that it plays, so it holds for every network, whatever its own names are.
"""
