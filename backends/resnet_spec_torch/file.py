"""Write a model as a program of torch.export, which PyTorch loads and compiles without this package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from resnet_spec.backend import BackendError, ExportOptions
from resnet_spec.checkpoints.formats.atomic import replace_file
from resnet_spec.network.free_size import infer_larger
from resnet_spec_torch.modules import FrozenModel, ResNet


def export(model: ResNet | FrozenModel, path: Path, options: ExportOptions) -> list[Path]:
    """Write a ``.pt2`` file of a model in evaluation mode; return it.

    ``torch.export.load(path).module()`` is a function of images (batch, channels, height, width). Raises BackendError,
    before anything is written, if PyTorch cannot trace the model, and ValueError if a part fixes a size that is free.
    """
    if isinstance(model, FrozenModel):
        raise BackendError('a model built with mode="inference" cannot be exported; build it with mode="training"')
    like = next(model.parameters(), torch.zeros(()))
    channels, height, width = model.network.input
    if options.free_size:
        infer_larger(model.network)  # PyTorch would write a program that takes this size alone
    # A batch or a size of 1 is taken for a fixed one.
    images = torch.zeros((options.batch or 2, channels, height, width), dtype=like.dtype, device=like.device)
    was_training = model.training
    try:
        with torch.no_grad():
            program = torch.export.export(model.eval(), (images,), dynamic_shapes={"images": _free_axes(options)})
    except Exception as error:  # PyTorch raises several kinds, with pages of advice
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise BackendError(f"torch.export cannot write {model.network.name} for these sizes: {reason}") from error
    finally:
        model.train(was_training)
    with replace_file(path) as part, part.open("wb") as file:
        torch.export.save(program, file)
    return [path]


def _free_axes(options: ExportOptions) -> dict[int, Any]:
    axes: dict[int, Any] = {0: torch.export.Dim("batch")} if options.batch is None else {}
    if options.free_size:
        axes |= {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    return axes
