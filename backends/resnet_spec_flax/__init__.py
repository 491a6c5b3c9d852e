"""Build and run a network in Flax NNX."""

from resnet_spec_flax.build import build as build
from resnet_spec_flax.inference import optimized as optimized
from resnet_spec_flax.run import pull as pull
from resnet_spec_flax.run import run as run
from resnet_spec_flax.run import step as step
from resnet_spec_flax.weights import dump as dump
from resnet_spec_flax.weights import load as load

DTYPE = "float32"
"""What it computes in unless asked otherwise."""
