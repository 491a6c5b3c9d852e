"""Build and run networks in PyTorch."""

from typing import Any

from resnet_spec.backend import Capabilities, ExportFormat
from resnet_spec_torch.build import build as build
from resnet_spec_torch.build import finds_accelerator as finds_accelerator
from resnet_spec_torch.file import export as export
from resnet_spec_torch.inference import build_inference as build_inference
from resnet_spec_torch.modules import checkpoint_blocks as checkpoint_blocks
from resnet_spec_torch.run import devices as devices
from resnet_spec_torch.run import move as move
from resnet_spec_torch.run import run as run
from resnet_spec_torch.run import step as step
from resnet_spec_torch.run import vjp as vjp
from resnet_spec_torch.weights import dump as dump
from resnet_spec_torch.weights import load as load

DTYPE = "float32"
"""The default dtype."""

CAPABILITIES = Capabilities(
    training_forward=True,
    gradients=True,
    inference=True,
    devices=True,
    checkpoints=True,
    compute=("bfloat16", "float16"),
    exports=(ExportFormat("pt2", ".pt2", ("free_size",)),),
)


def wrap_model(model: object) -> Any:
    """Return a model that this project did not build, as ``importing.foreign.ForeignModel`` describes."""
    from resnet_spec_torch.foreign import TorchModel

    return TorchModel(model)
