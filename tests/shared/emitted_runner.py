"""Run emitted modules: their weights by native name, outputs, gradients in training and running statistics.

As a script it runs the modules of a folder in a process that can't import ``resnet_spec``; tests call the same
functions for the models that ``resnet_spec.build`` makes.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.modules["resnet_spec"] = None  # type: ignore[assignment]  # importing it is an error
    os.environ["JAX_ENABLE_X64"] = "1"
    os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import numpy as np

Arrays = dict[str, Any]


class Torch:
    """Models of PyTorch."""

    def build(self, module: Any) -> Any:
        return module.build().double()

    def weights(self, model: Any) -> Arrays:
        return {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()}

    def load(self, model: Any, weights: Arrays) -> None:
        import torch

        model.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in weights.items()})

    def evaluate(self, model: Any, images: Any) -> Any:
        import torch

        with torch.no_grad():
            return model.eval()(torch.from_numpy(images)).numpy()

    def train(self, model: Any, images: Any, cotangent: Any) -> Arrays:
        import torch

        x: Any = torch.from_numpy(images).requires_grad_()
        (model.train()(x) * torch.from_numpy(cotangent)).sum().backward()
        gradients = {f"gradient {name}": weight.grad for name, weight in model.named_parameters()}
        found = {name: tensor.numpy().copy() for name, tensor in gradients.items() if tensor is not None}
        return {"gradient of the images": x.grad.numpy(), **found, **self.weights(model)}


class Paddle:
    """Models of PaddlePaddle."""

    def build(self, module: Any) -> Any:
        import paddle

        paddle.set_default_dtype("float64")
        return module.build()

    def weights(self, model: Any) -> Arrays:
        return {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()}

    def load(self, model: Any, weights: Arrays) -> None:
        model.set_state_dict(weights)

    def evaluate(self, model: Any, images: Any) -> Any:
        import paddle

        model.eval()
        with paddle.no_grad():
            return model(paddle.to_tensor(images)).numpy()

    def train(self, model: Any, images: Any, cotangent: Any) -> Arrays:
        import paddle

        model.train()
        x: Any = paddle.to_tensor(images, stop_gradient=False)
        (model(x) * paddle.to_tensor(cotangent)).sum().backward()
        gradients = {f"gradient {name}": weight.grad for name, weight in model.named_parameters()}
        found = {name: tensor.numpy() for name, tensor in gradients.items() if tensor is not None}
        return {"gradient of the images": x.grad.numpy(), **found, **self.weights(model)}


class Flax:
    """Models of Flax NNX, whose images have their channels last."""

    def build(self, module: Any) -> Any:
        from flax import nnx

        return nnx.eval_shape(module.build)

    def _state(self, model: Any) -> Any:
        from flax import nnx

        state = nnx.state(model, nnx.Any(nnx.Param, nnx.BatchStat))
        return state, {".".join(map(str, path)): variable for path, variable in nnx.to_flat_state(state)}

    def weights(self, model: Any) -> Arrays:
        return {name: np.asarray(variable.get_value()) for name, variable in self._state(model)[1].items()}

    def load(self, model: Any, weights: Arrays) -> None:
        import jax
        from flax import nnx

        state, variables = self._state(model)
        for name, array in weights.items():
            if variables[name].get_value().shape != array.shape:
                raise ValueError(f"{name} has the shape {variables[name].get_value().shape}, not {array.shape}")
            variables[name].set_value(jax.numpy.asarray(array))
        nnx.update(model, state)

    def evaluate(self, model: Any, images: Any) -> Any:
        model.eval()
        y = np.asarray(model(images.transpose(0, 2, 3, 1)))
        return y.transpose(0, 3, 1, 2) if y.ndim == 4 else y

    def train(self, model: Any, images: Any, cotangent: Any) -> Arrays:
        from flax import nnx

        model.train()
        gradients = nnx.grad(lambda one: (one(images.transpose(0, 2, 3, 1)) * cotangent).sum())(model)
        found = {f"gradient {'.'.join(map(str, path))}": value for path, value in nnx.to_flat_state(gradients)}
        arrays = {name: np.asarray(variable.get_value()) for name, variable in found.items()}
        return {**arrays, **self.weights(model)}


FRAMEWORKS: dict[str, Any] = {"torch": Torch(), "paddle": Paddle(), "flax": Flax()}


def results(framework: Any, model: Any, images: Any, cotangent: Any) -> Arrays:
    """Return the outputs of a model, and with a cotangent its gradients in training and its weights after that."""
    found = {"output": framework.evaluate(model, images)}
    return found if cotangent is None else {**found, **framework.train(model, images, cotangent)}


def import_file(path: Path) -> Any:
    """Import an emitted module."""
    spec = importlib.util.spec_from_file_location(f"emitted_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module  # where dataclasses look their annotations up
    spec.loader.exec_module(module)
    return module


def main(folder: Path, name: str) -> None:
    """Run every module of a folder with the weights and images beside it, and write what it gives beside it too."""
    framework = FRAMEWORKS[name]
    for path in sorted(folder.glob("*.py")):
        given = dict(np.load(path.with_suffix(".given.npz")))
        images, cotangent = given.pop("images"), given.pop("cotangent", None)
        model = framework.build(import_file(path))
        names = list(framework.weights(model) if name != "flax" else framework._state(model)[1])
        path.with_suffix(".names.json").write_text(json.dumps(names), encoding="utf-8")
        if sorted(names) == sorted(given):
            framework.load(model, given)
            np.savez(path.with_suffix(".found.npz"), **results(framework, model, images, cotangent))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
