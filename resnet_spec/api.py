"""What a user calls: build a network in a framework, run it, take its weights out, carry them between files."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from resnet_spec.backend import OUTPUT, Model, backend_of, load_backend, load_inference
from resnet_spec.library.load import Setting, load
from resnet_spec.network.network import Network
from resnet_spec.transforms.feature_outputs import with_feature_outputs

if TYPE_CHECKING:  # NumPy takes longer to import than a spec to expand, so what needs it is imported where it is used
    from resnet_spec.checkpoints.transfer.convert import Conversion, Progress
    from resnet_spec.checkpoints.transfer.identify import Match
    from resnet_spec.weights.canonical import Array

Weights: TypeAlias = "Mapping[str, Array] | str | PathLike[str]"

Mode: TypeAlias = Literal["training", "inference"]

DTYPES: dict[Mode, tuple[str, ...]] = {
    "training": ("float32", "float64"),
    "inference": ("float32", "float64", "bfloat16"),
}
"""The types that a model can be built for."""


def build(
    spec: str | PathLike[str] | Network,
    *,
    backend: str,
    weights: Weights | None = None,
    seed: int = 0,
    dtype: str | None = None,
    input: Sequence[int] | None = None,
    outputs: Sequence[str] | None = None,
    mode: Mode = "training",
    compile: bool = False,
    **settings: Setting,
) -> Model:
    """Build a network as a framework's own kind of model, in evaluation mode.

    Args:
        spec: A bundled name, the path of a YAML file, or a loaded network.
        backend: "torch" gives a torch.nn.Module, "paddle" a paddle.nn.Layer, "flax" an nnx.Module; "numpy" is the reference.
        weights: Canonical weights by name, or a checkpoint of any kind that ``convert`` reads. Drawn from the seed where there are none.
        seed: What initial weights are drawn from: the same bits in every framework.
        dtype: "float32" or "float64"; by default the first, and the second for the reference.
        input: As for ``load``.
        outputs: As for ``load``: the model gives those maps, as a tuple in this order.
        mode: "training" gives a model to train or to evaluate. "inference" gives one to evaluate alone, and faster: norms are
            folded into convolutions, so that ``model.network`` and ``dump(model)`` are those of a smaller network, and the backend
            picks its fastest layout. It can be built for "bfloat16" too, from weights in float32.
        compile: Whether the framework's compiler is used too, in inference mode: it takes seconds to minutes for the first images of
            each shape.
        settings: As for ``load``.

    Raises:
        SpecError: The spec has problems.
        WeightsError: The weights do not fit the network; the message lists every name that is wrong.
        CheckpointError: The file is damaged, or no checkpoint that is known.
        BackendError: There is no such backend, or its framework is not installed, or it can't do what is asked.
        ValueError: The network can't give an output that is asked for; or there is no such type or mode.

    >>> model = build("resnet18", backend="numpy", classes=10)
    >>> import numpy
    >>> run(model, numpy.zeros((2, 3, 64, 64))).shape
    (2, 10)
    """
    if isinstance(spec, Network):
        if input is not None or settings:
            raise TypeError("a loaded network's input and settings are fixed; give them to load()")
        network = spec if outputs is None else with_feature_outputs(spec, outputs)
    else:
        network = load(spec, input=input, outputs=outputs, **settings)
    module = load_backend(backend)
    dtype = dtype or module.DTYPE
    _allowed(dtype, mode, compile)
    if mode == "training":
        return module.build(network, _weights(network, weights, seed, dtype), dtype)
    from resnet_spec.transforms.norm_folding import fold_norms

    optimized = load_inference(backend, dtype, compile)
    return optimized(*fold_norms(network, _weights(network, weights, seed, _STORED.get(dtype, dtype))), dtype)


def run(model: Model, images: Array) -> Any:
    """Evaluate a model that ``build`` made: images (batch, channels, height, width) in, NumPy out.

    A model with ``outputs`` gives a tuple of maps, in their order.

    Raises:
        BackendError: No backend built this model.
        ValueError: The images do not have four axes, or not the network's channels.
    """
    found = backend_of(model).run(model, _images(model, images))
    wanted = model.network.outputs
    return tuple(found[path] for path in wanted) if wanted else found[OUTPUT]


def watch(model: Model, images: Array, paths: Collection[str]) -> dict[str, Array]:
    """Evaluate a model and give the outputs of the parts at these paths, and its own under "".

    >>> import numpy
    >>> model = build("resnet18", backend="numpy")
    >>> {path: array.shape for path, array in watch(model, numpy.zeros((1, 3, 64, 64)), ["layer1", "layer4.1.conv1"]).items()}
    {'layer1': (1, 64, 16, 16), 'layer4.1.conv1': (1, 512, 2, 2), '': (1, 1000)}
    """
    known = {part.path for part in model.network.nodes()}
    unknown = [path for path in paths if path and path not in known]
    if unknown:
        from resnet_spec.diagnostics.suggestions import suggest

        near = suggest(unknown[0], known) if len(known) < 5000 else ""
        raise ValueError(f"{model.network.name} has no part at {unknown[0]!r}; {near}")
    return backend_of(model).run(model, _images(model, images), paths)


def dump(model: Model) -> dict[str, Array]:
    """A model's weights and running statistics under canonical names, in PyTorch's layouts, bit for bit."""
    return backend_of(model).dump(model)


def load_weights(model: Model, weights: Weights) -> None:
    """Set a model's weights: a mapping by canonical name, or a checkpoint of any kind that ``convert`` reads.

    Raises WeightsError and CheckpointError before it sets any.
    """
    given = weights if isinstance(weights, Mapping) else _from_file(model.network, weights)
    backend_of(model).load(model, given)


def save_weights(model: Model, path: str | PathLike[str]) -> None:
    """Write a model's weights to a file of any kind that ``convert`` writes, whole or not at all."""
    from resnet_spec.checkpoints.formats.tensors import Tensor
    from resnet_spec.checkpoints.transfer.convert import write

    weights = dump(model)
    write(path, model.network, {name: Tensor(array.shape, array.dtype, array.copy) for name, array in weights.items()})


def convert(
    source: str | PathLike[str],
    target: str | PathLike[str],
    spec: str | PathLike[str] | Network | None = None,
    *,
    kind: str | None = None,
    names: str | None = None,
    dtype: str | None = None,
    under: str | None = None,
    progress: Progress | None = None,
    **settings: Setting,
) -> Conversion:
    """Convert a checkpoint to another framework's file. It is written whole or not at all, an array at a time.

    Args:
        source: A safetensors, PyTorch, Paddle or NumPy file, or an Orbax folder; told apart by what it holds. No code in it is run.
        target: Its ending says what is written: .safetensors, .pth, .pdparams, .npz, or none for an Orbax folder.
        spec: The network; by default that which the source itself names.
        kind: What to write, whatever the target's ending: "safetensors", "torch", "paddle", "npz" or "orbax".
        names: Whose names to write, as in "paddleclas"; by default the spec's own.
        dtype: "float64", "float32", "float16" or "bfloat16", for every array; by default each stays as it is.
        under: Which of the source's mappings holds the weights, where the likeliest is not meant, as in "state_dict_ema".
        progress: Told of bytes written, and of all.
        settings: As for ``load``.

    Raises:
        SpecError: The spec has problems.
        WeightsError: The weights do not fit the network; the message lists every name that is wrong.
        CheckpointError: The source is damaged, or no checkpoint that is known.

    >>> from tempfile import mkdtemp
    >>> import numpy
    >>> folder = mkdtemp()
    >>> numpy.savez(f"{folder}/w.npz", **dump(build("resnet18", backend="numpy", dtype="float32")))
    >>> convert(f"{folder}/w.npz", f"{folder}/w.pdparams", "resnet18").arrays
    102
    """
    from resnet_spec.checkpoints.transfer.convert import convert

    return convert(
        source,
        target,
        spec,
        kind=kind,
        names=names,
        dtype=dtype,
        under=under,
        progress=progress,
        settings=settings,
    )


def identify(path: str | PathLike[str]) -> list[Match]:
    """The bundled networks that a checkpoint fits, the best first, then those that it comes near; from names and shapes alone.

    Raises CheckpointError and FileNotFoundError.
    """
    from resnet_spec.checkpoints.transfer.identify import identify

    return identify(path)[1]


_STORED = {"bfloat16": "float32"}
"""What weights are kept in on their way to a model, where NumPy lacks its type."""


def _allowed(dtype: str, mode: Mode, compile: bool) -> None:
    if mode not in get_args(Mode):
        raise ValueError(f"mode is {mode!r}; it can be {' or '.join(get_args(Mode))}")
    if dtype not in DTYPES[mode]:
        raise ValueError(f"dtype is {dtype!r}; it can be {' or '.join(DTYPES[mode])}" + _only_inference(dtype))
    if compile and mode == "training":
        raise ValueError('compile is for mode="inference"; a model to train is compiled by its framework\'s own means')


def _only_inference(dtype: str) -> str:
    return ', or this with mode="inference"' if dtype in DTYPES["inference"] else ""


def _weights(network: Network, weights: Weights | None, seed: int, dtype: str) -> dict[str, Array]:
    from resnet_spec.weights.canonical import initialize, match_weights

    if weights is None:
        drawn = initialize(network, seed)
        return drawn if dtype == "float32" else {name: array.astype(dtype) for name, array in drawn.items()}
    if isinstance(weights, Mapping):
        return match_weights(network.weights(), weights, dtype, network.takes)
    return {name: array.astype(dtype, copy=False) for name, array in _from_file(network, weights).items()}


def _from_file(network: Network, path: str | PathLike[str]) -> dict[str, Array]:
    from resnet_spec.checkpoints.formats import registry
    from resnet_spec.checkpoints.transfer.matching import fit

    return {name: tensor.read() for name, tensor in fit(network, registry.read(path)).tensors().items()}


def _images(model: Model, images: Array) -> Array:
    import numpy as np

    images = np.asarray(images)
    channels = model.network.input[0]
    if images.ndim != 4 or images.shape[1] != channels:
        raise ValueError(f"images are (batch, {channels}, height, width) for {model.network.name}, not {images.shape}")
    return images
