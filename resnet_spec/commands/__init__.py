"""The command line: one module per command, listed in ``main``, and what they share in ``options`` and ``output``."""
