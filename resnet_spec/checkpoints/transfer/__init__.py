"""Match checkpoints with networks, convert them from one format to another, identify and compare them."""
