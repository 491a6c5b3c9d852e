"""Network to Network: options, dilation, feature outputs, norm folding, narrower copies."""
