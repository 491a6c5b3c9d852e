"""Build and run networks in PaddlePaddle."""

import warnings

with warnings.catch_warnings():
    # Paddle warns about a compiler's cache whenever it is imported, and here nothing is compiled.
    warnings.filterwarnings("ignore", "No ccache found", UserWarning)
    import paddle as paddle

from typing import Any

from resnet_spec.backend import Capabilities
from resnet_spec_paddle.build import build as build
from resnet_spec_paddle.build import finds_accelerator as finds_accelerator
from resnet_spec_paddle.inference import build_inference as build_inference
from resnet_spec_paddle.modules import checkpoint_blocks as checkpoint_blocks
from resnet_spec_paddle.run import devices as devices
from resnet_spec_paddle.run import move as move
from resnet_spec_paddle.run import run as run
from resnet_spec_paddle.run import step as step
from resnet_spec_paddle.run import vjp as vjp
from resnet_spec_paddle.weights import dump as dump
from resnet_spec_paddle.weights import load as load

DTYPE = "float32"
"""The default dtype."""

CAPABILITIES = Capabilities(
    training_forward=True,
    gradients=True,
    inference=True,
    devices=True,
    checkpoints=True,
    compute=("bfloat16", "float16"),
)


def wrap_model(model: object) -> Any:
    """Return a model that this project did not build, with ``run`` and ``weights``, for comparison."""
    from resnet_spec_paddle.foreign import PaddleModel

    return PaddleModel(model)
