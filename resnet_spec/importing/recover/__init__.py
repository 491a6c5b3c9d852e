"""Write a tree of operations as a spec that a person can read."""
