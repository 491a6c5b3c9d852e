"""Build and run a network in PaddlePaddle."""

from resnet_spec_paddle.build import build as build
from resnet_spec_paddle.inference import optimized as optimized
from resnet_spec_paddle.run import pull as pull
from resnet_spec_paddle.run import run as run
from resnet_spec_paddle.run import step as step
from resnet_spec_paddle.weights import dump as dump
from resnet_spec_paddle.weights import load as load

DTYPE = "float32"
"""What it computes in unless asked otherwise."""
