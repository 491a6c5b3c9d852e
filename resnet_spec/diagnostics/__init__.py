"""Problems in a spec: where each one is, what its code means, and how it is reported."""
