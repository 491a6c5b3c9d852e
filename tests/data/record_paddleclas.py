"""Record the output of a PaddleClas model as a row like those of goldens.json. Needs paddlepaddle and PaddleClas 2.6.0.

``python tests/data/record_paddleclas.py FOLDER NAME`` prints the row of a model, where FOLDER contains ``ppcls`` from
the unpacked wheel. Each model needs a new process, because Paddle rejects a parameter's name that was used before. All
rows together are goldens_paddleclas.json.
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

SIZE = (1, 3, 64, 96)  # maps are even except in the last stage, as its ResNeSts require


def add_package(name: str, folder: Path) -> None:
    """Add a package without running its __init__, which would import all of PaddleClas."""
    module = ModuleType(name)
    module.__path__ = [str(folder)]
    sys.modules[name] = module


def add_stub(name: str, **attributes: Any) -> None:
    """Add a module that has only these attributes."""
    module = ModuleType(name)
    vars(module).update(attributes)
    sys.modules[name] = module
    parent, _, last = name.rpartition(".")
    setattr(sys.modules[parent], last, module)


def make_importable(root: Path) -> None:
    """Make the models of PaddleClas importable, with stubs for what they import and do not use."""
    for name in (
        *("ppcls", "ppcls.arch", "ppcls.utils", "ppcls.arch.backbone", "ppcls.arch.backbone.base"),
        *(
            "ppcls.arch.backbone.model_zoo",
            "ppcls.arch.backbone.legendary_models",
            "ppcls.arch.backbone.variant_models",
        ),
    ):
        add_package(name, root / name.replace(".", "/"))
    unused = {"load_dygraph_pretrain": None, "load_dygraph_pretrain_from_url": None, "get_pretrain_state_dict": None}
    add_stub("ppcls.utils.save_load", **unused)
    add_stub("ppcls.utils.logger", warning=lambda *words: None, info=lambda *words: None)


def record_row(file: str, name: str) -> dict[str, object]:
    """Return the row of a model, whose class is in a file of PaddleClas."""
    model = getattr(importlib.import_module(file.removesuffix(".py").replace("/", ".")), name)()
    model.to(dtype="float64")
    model.eval()
    weights = comparison_weights(load(f"paddleclas/{name}"))
    for tensor, array in zip(model.state_dict().values(), weights.values(), strict=True):
        # Linear weights are (in, out) in Paddle. The linear layers of gates are 1x1 convolutions here.
        fitting = array if array.shape == tuple(tensor.shape) else array.reshape(array.shape[:2]).T
        tensor.set_value(paddle.to_tensor(fitting, dtype=tensor.dtype))
    with paddle.no_grad():
        logits = model(paddle.to_tensor(np.random.default_rng(0).standard_normal(SIZE))).numpy()
    total, length = float(logits.sum()), float(np.sqrt((logits**2).sum()))
    facts = {"registry": "paddleclas", "name": name, "settings": {}, "input": SIZE}
    return {**facts, "logits8": logits[0, :8].tolist(), "sum": total, "l2": length}


if __name__ == "__main__":
    make_importable(Path(sys.argv[1]))
    paddle.set_default_dtype("float64")
    models = json.loads((Path(__file__).parent / "peer_models.json").read_text(encoding="utf-8"))["models"]
    (file,) = (model["file"] for model in models if (model["registry"], model["name"]) == ("PaddleClas", sys.argv[2]))
    print(json.dumps(record_row(file, sys.argv[2])))
