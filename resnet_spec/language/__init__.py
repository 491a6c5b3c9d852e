"""The language of specs: its grammar, the validator, and the reader that turns nodes into a Spec."""
