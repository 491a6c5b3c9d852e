"""Record the convolutional networks of paddle.vision and PaddleClas. Needs paddlepaddle 3.3.1, PaddleClas 2.6.0, six.

``python tests/data/record_paddle.py FOLDER``, where FOLDER contains ``ppcls`` from the unpacked wheel: each model that
paddle_cnn.json names is recorded anew, and then the logits of the smallest model of each family, in
goldens_paddle_cnn.json. A family is the file of the library that defines its models.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from record_paddleclas import make_importable

from resnet_spec import load
from resnet_spec.weights.canonical import comparison_weights
from shared.peer_recordings import sign_weights

MODELS, GOLDENS = (Path(__file__).parent / name for name in ("paddle_cnn.json", "goldens_paddle_cnn.json"))
SIZE = (1, 3, 72, 56)
SIZES = {
    **dict.fromkeys(("alexnet", "googlenet", "vgg"), (1, 3, 224, 224)),  # they flatten a map of one size
    "lenet": (1, 1, 28, 28),
    **dict.fromkeys(("inceptionv3", "inception_v3", "inception_v4"), (1, 3, 96, 80)),
    "efficientnet_v2": (1, 3, 64, 96),  # its padding is right for even maps
}
"""The images of families that cannot take those of the others."""

LARGE = 70_000_000
"""Networks with more parameters have no recorded logits."""

UNUSED = {
    "googlenet": r"_(conv|fc)_o\d|_out\d",  # two classifiers for training
    "pp_lcnet_v2": r".*\.dw_conv\.(weight|bias)",  # a convolution for what the sum of several ones becomes
    "pp_lcnetv2_variant": r".*\.dw_conv\.(weight|bias)",
}
"""Patterns of weights that evaluation does not use; a spec has the network without them."""

Shape = tuple[int, ...]


def compute_exactly() -> None:
    """Make Paddle compute in float64 what it computes with a slope, or a rate, in float32."""

    def hard_sigmoid(x: Any, slope: float = 1 / 6, offset: float = 0.5, name: str | None = None) -> Any:
        exact = paddle.to_tensor(1 / 6 if slope == 0.1666667 else slope, dtype=x.dtype)
        return paddle.clip(x * exact + offset, 0.0, 1.0)

    def drop_nothing(self: Any, x: Any) -> Any:
        return x * paddle.to_tensor(1 - self.p, dtype=x.dtype) if self.mode == "downscale_in_infer" else x

    paddle.nn.functional.hardsigmoid = hard_sigmoid
    paddle.nn.Dropout.forward = drop_nothing


def create(model: str, family: str) -> Any:
    """Return a model for evaluation, by registry/name."""
    registry, name = model.split("/")
    with paddle.utils.unique_name.guard():  # PaddleClas names its parameters, and a name can be used once
        if registry == "paddle" and name.endswith("_bn"):
            module = getattr(paddle.vision.models, name.removesuffix("_bn"))(batch_norm=True)
        elif registry == "paddle":
            module = getattr(paddle.vision.models, name)()
        else:
            module = getattr(importlib.import_module(f"ppcls.arch.backbone.{family.replace('/', '.')}"), name)()
    module.to(dtype=paddle.get_default_dtype())  # paddle.nn.BatchNorm is in float32
    module.eval()
    for layer in module.sublayers():
        if isinstance(layer, paddle.nn.LeakyReLU):
            layer._negative_slope = float(np.float32(layer._negative_slope))
    return module


def canonical(name: str, shape: list[int]) -> tuple[str, Shape]:
    """Return the name and shape that a weight has in resnet-spec, where the matrix of a linear layer is (out, in)."""
    path, _, last = name.rpartition(".")
    last = {"_mean": "running_mean", "_variance": "running_var"}.get(last, last)
    path = re.sub(
        r"_?blocks?\.(\d+)\.\.", r"_blocks.\1.", path
    )  # EfficientNet's _blocks.0. and block.2., each with a dot
    return f"{path}.{last}" if path else last, tuple(shape[::-1] if len(shape) == 2 else shape)


def weights_of(module: Any, family: str) -> dict[str, Any]:
    """Return the tensors of a model by their names in resnet-spec, in order."""
    unused = UNUSED.get(family.rpartition("/")[2], "$")
    weights = {
        canonical(name, tensor.shape)[0]: tensor
        for name, tensor in module.state_dict().items()
        if not re.match(unused, name)
    }
    if family.endswith("/efficientnet_v2"):  # creates its blocks before its stem
        weights = dict(sorted(weights.items(), key=lambda item: not item[0].startswith("_stem.")))
    return weights


def record(model: str, family: str) -> dict[str, Any]:
    """Return the number of parameters of a model, and the signature of its weights' names and shapes in order."""
    weights = weights_of(create(model, family), family)
    shapes = [canonical(name, tensor.shape) for name, tensor in weights.items()]
    learned = [shape for name, shape in shapes if not name.endswith(("running_mean", "running_var"))]
    return {"parameters": sum(map(np.prod, learned), start=0), "signature": sign_weights(shapes)}


def record_logits(model: str, family: str) -> dict[str, Any]:
    """Return the logits of a model, as in goldens_cnn.json."""
    registry, name = model.split("/")
    network, module = load(model), create(model, family)
    size = SIZES.get(family.rpartition("/")[2], SIZE)
    arrays = comparison_weights(network)
    for key, tensor in weights_of(module, family).items():
        tensor.set_value(arrays[key].T if arrays[key].ndim == 2 else arrays[key])
    with paddle.no_grad():
        outputs = module(paddle.to_tensor(np.random.default_rng(0).standard_normal(size)))
    logits = (outputs[0] if isinstance(outputs, tuple | list) else outputs).numpy().reshape(1, -1)
    total, length = float(logits.sum()), float(np.sqrt((logits**2).sum()))
    facts = {"registry": registry, "name": name, "input": size}
    return {**facts, "logits8": logits[0, :8].tolist(), "sum": total, "l2": length, "family": family}


if __name__ == "__main__":
    make_importable(Path(sys.argv[1]))
    compute_exactly()
    rows = json.loads(MODELS.read_text(encoding="utf-8"))
    rows = {model: row | record(model, row["family"]) for model, row in rows.items()}
    lines = [f" {json.dumps(model)}: {json.dumps(row, default=int)}" for model, row in rows.items()]
    MODELS.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    paddle.set_default_dtype("float64")
    smallest: dict[tuple[str, str], str] = {}
    for model, row in sorted(rows.items(), key=lambda item: int(item[1]["parameters"])):
        if row["parameters"] <= LARGE:
            smallest.setdefault((model.partition("/")[0], row["family"]), model)
    recipe = "as in goldens_cnn.json; a slope of 1/6 and the rates of dropout in float64"
    goldens = {"recipe": recipe, "models": [record_logits(smallest[key], key[1]) for key in sorted(smallest)]}
    GOLDENS.write_text(json.dumps(goldens, indent=1) + "\n", encoding="utf-8")
