"""Record outputs of PaddleClas's own models, to rows like those of goldens.json: needs paddlepaddle and PaddleClas 2.6.0's files.

python tests/data/record_paddleclas.py FOLDER NAME > row, where FOLDER holds ``ppcls`` (a wheel unpacked), one model a process: Paddle takes no
parameter's name twice. The rows together are goldens_paddleclas.json.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import paddle

from resnet_spec import load
from resnet_spec.weights.canonical import comparison_weights

SIZE = (1, 3, 64, 96)  # even maps to the last but one: its ResNeSts take no others


def package(name: str, folder: Path) -> None:
    """A package whose own __init__ is not run: it would import all of PaddleClas."""
    module = ModuleType(name)
    module.__path__ = [str(folder)]
    sys.modules[name] = module


def stub(name: str, **attributes: Any) -> None:
    module = ModuleType(name)
    vars(module).update(attributes)
    sys.modules[name] = module
    parent, _, last = name.rpartition(".")
    setattr(sys.modules[parent], last, module)


def prepared(root: Path) -> None:
    for name in (
        *("ppcls", "ppcls.arch", "ppcls.utils", "ppcls.arch.backbone", "ppcls.arch.backbone.base"),
        *(
            "ppcls.arch.backbone.model_zoo",
            "ppcls.arch.backbone.legendary_models",
            "ppcls.arch.backbone.variant_models",
        ),
    ):
        package(name, root / name.replace(".", "/"))
    unused = {"load_dygraph_pretrain": None, "load_dygraph_pretrain_from_url": None, "get_pretrain_state_dict": None}
    stub("ppcls.utils.save_load", **unused)
    stub("ppcls.utils.logger", warning=lambda *words: None, info=lambda *words: None)


def row(file: str, name: str) -> dict[str, object]:
    model = getattr(importlib.import_module(file.removesuffix(".py").replace("/", ".")), name)()
    model.to(dtype="float64")
    model.eval()
    weights = comparison_weights(load(f"paddleclas/{name}"))
    for tensor, array in zip(model.state_dict().values(), weights.values(), strict=True):
        # linear weights are (in, out) in Paddle; those of gates are 1x1 convolutions here
        fits = array if array.shape == tuple(tensor.shape) else array.reshape(array.shape[:2]).T
        tensor.set_value(paddle.to_tensor(fits, dtype=tensor.dtype))
    with paddle.no_grad():
        logits = model(paddle.to_tensor(np.random.default_rng(0).standard_normal(SIZE))).numpy()
    total, length = float(logits.sum()), float(np.sqrt((logits**2).sum()))
    facts = {"registry": "paddleclas", "name": name, "settings": {}, "input": SIZE}
    return {**facts, "logits8": logits[0, :8].tolist(), "sum": total, "l2": length}


if __name__ == "__main__":
    prepared(Path(sys.argv[1]))
    paddle.set_default_dtype("float64")
    models = json.loads((Path(__file__).parent / "peer_models.json").read_text(encoding="utf-8"))["models"]
    (found,) = (model["file"] for model in models if (model["registry"], model["name"]) == ("PaddleClas", sys.argv[2]))
    print(json.dumps(row(found, sys.argv[2])))
