"""Build and run networks in Flax NNX."""

from typing import Any

from resnet_spec.backend import Capabilities, ExportFormat
from resnet_spec_flax.build import build as build
from resnet_spec_flax.build import finds_accelerator as finds_accelerator
from resnet_spec_flax.build import reseed as reseed
from resnet_spec_flax.file import export as export
from resnet_spec_flax.inference import build_inference as build_inference
from resnet_spec_flax.modules import checkpoint_blocks as checkpoint_blocks
from resnet_spec_flax.run import devices as devices
from resnet_spec_flax.run import move as move
from resnet_spec_flax.run import run as run
from resnet_spec_flax.run import step as step
from resnet_spec_flax.run import vjp as vjp
from resnet_spec_flax.weights import dump as dump
from resnet_spec_flax.weights import load as load

DTYPE = "float32"
"""The default dtype."""

CAPABILITIES = Capabilities(
    training_forward=True,
    gradients=True,
    inference=True,
    devices=True,
    checkpoints=True,
    compute=("bfloat16", "float16"),
    random_state=True,
    exports=(ExportFormat("stablehlo", ".stablehlo", ("training_step",)),),
)


def wrap_model(model: object) -> Any:
    """Return a model that this project did not build, with ``run`` and ``weights``, for comparison."""
    from resnet_spec_flax.foreign import FlaxModel

    return FlaxModel(model)
