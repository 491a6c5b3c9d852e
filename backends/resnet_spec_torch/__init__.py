"""Build and run a network in PyTorch."""

from resnet_spec_torch.build import build as build
from resnet_spec_torch.inference import optimized as optimized
from resnet_spec_torch.run import pull as pull
from resnet_spec_torch.run import run as run
from resnet_spec_torch.run import step as step
from resnet_spec_torch.weights import dump as dump
from resnet_spec_torch.weights import load as load

DTYPE = "float32"
"""What it computes in unless asked otherwise."""
