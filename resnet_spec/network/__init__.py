"""The expanded network: a tree of operations with every shape known, and what follows from it."""
