"""Test vectors: small models with the reference's output of every node, for runtimes outside of this package."""
