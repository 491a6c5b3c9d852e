"""The public functions: build a network in a framework, run it, read and write its weights, convert checkpoints."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from operator import index
from os import PathLike
from pathlib import Path
from reprlib import repr as shorten
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from resnet_spec.backend import (
    OUTPUT,
    Backend,
    Model,
    SlowTypeWarning,
    backend_of,
    checkpoint_model,
    load_backend,
    load_builder,
    load_inference,
    move_model,
)
from resnet_spec.diagnostics.problems import SpecError
from resnet_spec.emitting.dialects import find_dialect
from resnet_spec.emitting.module import Options, write_module
from resnet_spec.library.load import Setting, check_input, load, loads
from resnet_spec.network.network import Network
from resnet_spec.transforms.adaptation import NOT_ADAPTED, Adaptation, Head, Stem, without_classifier
from resnet_spec.transforms.feature_outputs import check_paths, with_feature_outputs

if TYPE_CHECKING:  # importing NumPy takes longer than expanding a spec, so it is imported only where it is used
    from numpy.typing import ArrayLike

    from resnet_spec.checkpoints.transfer.convert import Conversion, Progress
    from resnet_spec.checkpoints.transfer.identify import Match
    from resnet_spec.library.published import PublishedWeights
    from resnet_spec.preparation.preparation import Preparation
    from resnet_spec.weights.canonical import Array

Weights: TypeAlias = "Mapping[str, Any] | str | PathLike[str]"
"""Arrays by name, of NumPy or a framework, the path of a checkpoint, or the tag of published weights."""

Mode: TypeAlias = Literal["training", "inference"]

DTYPES: dict[Mode, tuple[str, ...]] = {
    "training": ("float32", "float64"),
    "inference": ("float32", "float64", "bfloat16"),
}
"""The types of numbers for which a model can be built, by mode."""

COMPUTE_DTYPES = ("bfloat16", "float16")
"""The types in which a model with weights in float32 can compute its products: mixed precision."""


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
    compute: str | None = None,
    compile: bool = False,
    under: str | None = None,
    head: Head | None = None,
    stem: Stem | None = None,
    device: str | None = None,
    checkpoint: Literal["blocks"] | None = None,
    **settings: Setting,
) -> Model:
    """Build a network as a native model of a framework, in evaluation mode.

    Args:
        spec: The name of a bundled network, the path of a YAML file, or a loaded network.
        backend: "torch" builds a torch.nn.Module, "paddle" a paddle.nn.Layer, "flax" an nnx.Module, "onnx" an ONNX
            model, and "numpy" the reference implementation.
        weights: A checkpoint in any format that ``convert`` reads, or arrays by name, as they stand in one: those of
            ``dump``, or the ``state_dict`` of a PyTorch or Paddle model. Or the tag of published weights, such as
            "a1_in1k", or "default" for those that the library of the network prefers: they are taken from a cache, or
            downloaded, and the network has their number of classes unless ``classes`` is set. By default, weights are
            initialized from the seed.
        seed: Seed of the initial weights, which have the same bits in every framework. In Flax, whose models hold the
            state of their random numbers, it seeds dropout too.
        dtype: "float32" or "float64". The default is "float64" for "numpy" and "float32" for other backends.
        input: As for ``load``.
        outputs: As for ``load``. The model returns these feature maps as a tuple, in this order.
        mode: "training" builds a model that can be trained and evaluated. "inference" builds a faster model for
            evaluation only: norms are folded into convolutions, so ``model.network`` and ``dump(model)`` are those of
            a smaller network, and the backend chooses its fastest memory layout. This mode also supports "bfloat16",
            with weights in float32.
        compute: "bfloat16" or "float16" for mixed precision: convolutions and linear layers multiply in that type, and
            all else is computed in float32 and kept, or rounded to that type. Weights, statistics, gradients of
            weights and outputs are in float32. Training in float16 needs its loss to be scaled.
        compile: Whether to use the framework's compiler, in inference mode. Compilation takes seconds to minutes for
            the first images of each shape.
        under: Where in the checkpoint the weights stand, such as "state_dict_ema". It is needed where the weights of
            several networks fit, such as a student's and a teacher's.
        head: "new" draws a new classifier from the seed, whatever the weights have in its place, for other classes or
            for weights without one. "none" builds the network without its classifier, whether or not the weights have
            one, so that it outputs what the classifier would read. By default, the weights must have the classifier.
        stem: How the first layer's weights are converted to the channels of ``input``: "sum" adds them up for one
            channel, "repeat" takes them in turn for more, both as timm does; "mean" gives each channel their mean.
        device: Where the model's weights live and where it computes: "cpu", "cuda", "cuda:1", "tpu" and the like. By
            default, PyTorch's models are on the CPU, and those of Paddle and Flax on the framework's default device.
        checkpoint: "blocks" trains in less memory and more time: residual blocks keep no activations for the backward
            pass, which computes them again, by the framework's own means. Gradients and statistics are the same.
        settings: As for ``load``.

    Raises:
        SpecError: The spec has problems.
        WeightsError: The weights do not fit the network. The message lists every name that does not fit.
        CheckpointError: The file is damaged, or its format is unknown.
        DownloadError: The published weights cannot be had, or have a wrong hash.
        BackendError: There is no such backend or device, its framework is not installed, or it does not support what
            is asked for.
        ValueError: The type, the mode, a tag, a path in ``outputs``, ``head`` or ``stem`` is not possible, or has no
            effect.

    Warns with ``SlowTypeWarning``, once, if a 16-bit type is asked for and a convolution takes longer in it than in
    float32 here.

    >>> model = build("resnet18", backend="numpy", classes=10)
    >>> import numpy
    >>> run(model, numpy.zeros((2, 3, 64, 64))).shape
    (2, 10)
    """
    adaptation = _check_adaptation(head, stem, weights, outputs, settings)
    network = _resolve_network(spec, input, outputs, settings)
    published = _find_published(spec, weights)
    if published is not None:
        network = _with_published_classes(network, spec, published, input, outputs, settings)
    if head == "none":
        network = without_classifier(network)
    module = load_backend(backend)
    dtype = dtype or module.DTYPE
    seed = _check_seed(seed)
    _check_options(dtype, mode, compile, checkpoint)
    _check_compute(compute, dtype, mode)
    if compute or dtype in COMPUTE_DTYPES:
        _warn_if_slower(backend, compute or dtype, mode)
    weights = weights if published is None else _fetch(published)
    if mode == "training":
        make = load_builder(backend, compute)
        model = make(network, _resolve_weights(network, weights, seed, dtype, under, adaptation), dtype)
        if module.CAPABILITIES.random_state:
            module.reseed(model, seed)
        if checkpoint:
            checkpoint_model(model)
    else:
        from resnet_spec.transforms.norm_folding import fold_norms

        optimized = load_inference(backend, dtype, compile)
        resolved = _resolve_weights(network, weights, seed, _STORAGE_DTYPES.get(dtype, dtype), under, adaptation)
        model = optimized(*fold_norms(network, resolved), dtype)
    if device is not None:
        move_model(model, device)
    return model


def emit(
    spec: str | PathLike[str] | Network,
    *,
    backend: str,
    input: Sequence[int] | None = None,
    outputs: Sequence[str] | None = None,
    native: bool = False,
    comments: bool = False,
    with_main: bool = False,
    **settings: Setting,
) -> str:
    """Return the source of a Python module that builds a network and imports its framework alone.

    The module's weights have the names that ``build`` gives them, so checkpoints load. Integers that the spec takes,
    such as the number of classes, are arguments of the module's ``build`` too; those of a loaded network are not.

    Args:
        spec: As for ``build``.
        backend: "torch", "paddle" or "flax", or another backend that writes code. Its framework need not be installed.
        input: As for ``load``.
        outputs: As for ``build``.
        native: Whether to use the framework's own layers where those differ from the spec a little, as in a running
            variance. The module's docstring says what differs then.
        comments: Whether to say the shapes of the maps after each stage.
        with_main: Whether to add a part that prints a summary and runs the network on two images.
        settings: As for ``load``.

    Raises:
        SpecError: The spec has problems.
        BackendError: There is no such backend, or it writes no code.
        ValueError: A path in ``outputs`` is not possible, or a layer's name can't be written.

    >>> source = emit("resnet18", backend="torch")
    >>> [line for line in source.splitlines() if "self.layer2 =" in line]
    ['        self.layer2 = Layer(64, 128, depth=2, stride=2)']
    """
    network = _resolve_network(spec, input, outputs, settings)
    load_with = None if isinstance(spec, Network) else partial(load, spec, input=input, outputs=outputs)
    return emit_loaded(network, load_with, settings, backend, Options(native, comments, with_main))


def emit_loaded(
    network: Network,
    load_with: Callable[..., Network] | None,
    settings: Mapping[str, Setting],
    backend: str,
    options: Options,
) -> str:
    """Return the source of a module for a loaded network; see ``emit``.

    ``load_with`` loads it with other settings, by which is found where its arguments stand; None if it has none.
    """
    variants = [network]
    for name, value in network.takes if load_with else ():
        with suppress(SpecError, ValueError):  # the network can't have this value, so it is no argument
            variants.append(load_with(**{**settings, name: value + 1}))  # type: ignore[misc]
    return write_module(variants, find_dialect(backend), options)


def run(model: Model, images: ArrayLike) -> Any:
    """Evaluate a model on images (batch, channels, height, width), and return its output as a NumPy array.

    It computes where the model's weights live. The images may be nested lists, or an array of any type of real numbers
    in any memory layout. For a model with ``outputs``, returns a tuple of feature maps in their order.

    Raises:
        BackendError: The model was not built by ``build``.
        ValueError: The images are no finite real numbers, or the network cannot take their shape.
    """
    arrays = backend_of(model).run(model, _convert_images(model, images))
    outputs = model.network.outputs
    return tuple(arrays[path] for path in outputs) if outputs else arrays[OUTPUT]


def capture(model: Model, images: ArrayLike, paths: Collection[str]) -> dict[str, Array]:
    """Evaluate a model on images, and return the outputs of the parts at ``paths``, and the model's own under "".

    Raises ValueError if there is no part at one of the paths, and otherwise as ``run`` does.

    >>> import numpy
    >>> model = build("resnet18", backend="numpy")
    >>> outputs = capture(model, numpy.zeros((1, 3, 64, 64)), ["layer1", "layer4.1.conv1"])
    >>> {path: array.shape for path, array in outputs.items()}
    {'layer1': (1, 64, 16, 16), 'layer4.1.conv1': (1, 512, 2, 2), '': (1, 1000)}
    """
    backend = backend_of(model)
    paths = check_paths("paths", paths)
    known = {part.path for part in model.network.nodes()}
    unknown = [path for path in paths if path and path not in known]
    if unknown:
        from resnet_spec.diagnostics.suggestions import suggest

        suggestion = suggest(unknown[0], known) if len(known) < 5000 else ""
        raise ValueError(f"{model.network.name} has no part at {unknown[0]!r}; {suggestion}")
    return backend.run(model, _convert_images(model, images), paths)


def dump(model: Model) -> dict[str, Array]:
    """Return a model's weights and running statistics by canonical name, in PyTorch's layouts, with unchanged bits.

    Each array has the model's type; bfloat16, which NumPy lacks, is ``ml_dtypes.bfloat16``. Raises WeightsError if a
    layer was replaced by one that has no such weights.
    """
    return backend_of(model).dump(model)


def load_weights(model: Model, weights: Weights, *, under: str | None = None) -> None:
    """Set a model's weights from a checkpoint, a mapping of arrays or a tag; ``under`` is as for ``build``.

    Raises WeightsError, CheckpointError or DownloadError, without changing the model.
    """
    backend = backend_of(model)
    published = _find_published(model.network, weights)
    weights = weights if published is None else _fetch(published)
    backend.load(model, _read_weights(_network_of(model, dump(model)), weights, under))


def save_weights(model: Model, path: str | PathLike[str]) -> None:
    """Write a model's weights to a file in any format that ``convert`` writes.

    The file says which network it is for, with its settings; a layer that was replaced by one with more or fewer
    channels, such as a classifier of other classes, is taken into account. If writing fails, no incomplete file is
    left.

    Raises WeightsError if a layer was replaced by one that has other weights than the network's.
    """
    from resnet_spec.checkpoints.formats.tensors import Tensor
    from resnet_spec.checkpoints.transfer.convert import write

    weights = dump(model)
    tensors = {name: Tensor(array.shape, array.dtype, array.copy) for name, array in weights.items()}
    write(path, _network_of(model, weights), tensors)


def _network_of(model: Model, weights: Mapping[str, Array]) -> Network:
    """Return the network of a model whose layers may have been replaced, by the shapes of its weights."""
    from resnet_spec.transforms.replaced_layers import with_weight_shapes

    return with_weight_shapes(model.network, {name: array.shape for name, array in weights.items()})


def convert(
    source: str | PathLike[str],
    target: str | PathLike[str],
    spec: str | PathLike[str] | Network | None = None,
    *,
    kind: str | None = None,
    names: str | None = None,
    dtype: str | None = None,
    under: str | None = None,
    input: Sequence[int] | None = None,
    outputs: Sequence[str] | None = None,
    layout: str | None = None,
    progress: Progress | None = None,
    **settings: Setting,
) -> Conversion:
    """Convert a checkpoint to another framework's format, one array at a time.

    If the conversion fails, no incomplete file is left.

    Args:
        source: A checkpoint in any of the formats of the reference page on checkpoint files. The format is recognised
            by the content, and no code in the file is run.
        target: The file to write. Its suffix determines the format: .safetensors, .pth, .pdparams, .npz, or no suffix
            for an Orbax folder.
        spec: The network. By default, the one that the source's metadata name.
        kind: The format, regardless of the target's suffix: "safetensors", "torch", "paddle", "npz" or "orbax".
        names: The naming convention of the target, such as "paddleclas". By default, the spec's own names.
        dtype: "float64", "float32", "float16" or "bfloat16", for every array. By default, types are unchanged.
        under: As for ``build``.
        input: As for ``load``. Weights depend on it where a network flattens its feature maps.
        outputs: As for ``load``, for a checkpoint without the layers after the last of these parts.
        layout: The framework whose order of axes the source's arrays have: "torch", "paddle", "nnx", "linen" or
            "keras". By default, what names, shapes and the format tell; it is needed where a matrix is square and
            nothing tells.
        progress: Called with the number of bytes that are written and the total.
        settings: As for ``load``.

    Raises:
        SpecError: The spec has problems.
        WeightsError: The weights do not fit the network. The message lists every name that does not fit.
        CheckpointError: The source is damaged, or its format is unknown.

    >>> from tempfile import mkdtemp
    >>> import numpy
    >>> folder = mkdtemp()
    >>> numpy.savez(f"{folder}/w.npz", **dump(build("resnet18", backend="numpy", dtype="float32")))
    >>> convert(f"{folder}/w.npz", f"{folder}/w.pdparams", "resnet18").arrays
    102
    """
    from resnet_spec.checkpoints.transfer.convert import convert
    from resnet_spec.downloads.select import find_provenance

    if isinstance(spec, Network) or input is not None or outputs is not None:
        if spec is None:
            raise ValueError("input and outputs need a spec")
        spec, settings = _resolve_network(spec, input, outputs, settings), {}
    return convert(
        source,
        target,
        spec,
        kind=kind,
        names=names,
        dtype=dtype,
        under=under,
        layout=layout,
        progress=progress,
        settings=settings,
        provenance=find_provenance(source),
    )


def identify(path: str | PathLike[str], *, under: str | None = None) -> list[Match]:
    """Return the bundled networks that a checkpoint fits, best first, followed by those that it nearly fits.

    Names and shapes are compared; ``published`` of a match is the tag of the published weights that have the file's
    hash. ``under`` is as for ``build``. Raises CheckpointError or FileNotFoundError if the checkpoint cannot be read.
    """
    from resnet_spec.checkpoints.transfer.identify import identify
    from resnet_spec.downloads.select import name_published

    return name_published(path, identify(path, under=under)[1])


def fetch_weights(spec: str | PathLike[str] | Network, tag: str, *, from_: str | PathLike[str] | None = None) -> Path:
    """Return the path of a verified file of published weights, which is downloaded if it is in no cache.

    Args:
        spec: As for ``build``.
        tag: The tag of published weights, or "default".
        from_: A folder to copy the file to the cache from, laid out as torch.hub, Hugging Face, Paddle, PaddleClas or
            Keras do it, or with the file alone.

    Raises:
        DownloadError: The file cannot be had, or its hash is wrong; then nothing is kept.
        ValueError: There is no such tag, or its license is not allowed.
    """
    from resnet_spec.downloads.fetch import fetch
    from resnet_spec.downloads.select import select_published

    return fetch(select_published(spec, tag), folder=from_).path


def preprocessing(
    spec: str | PathLike[str] | Network,
    *,
    weights: str | None = None,
    input: Sequence[int] | None = None,
    test_size: bool = False,
) -> Preparation:
    """Return what is done to a picture before a network with published weights reads it.

    Call it with pictures, which gives what ``run`` reads; print it to see its numbers.

    Args:
        spec: The name of a bundled network. Without ``weights``, a spec's path or a loaded network too.
        weights: The tag of published weights, or "default". By default, what the spec's ``preprocess`` states.
        input: The shape (channels, height, width) of the network's input, instead of that of the weights. A larger
            image is resized in proportion before the crop. With one channel, pictures are grey.
        test_size: Whether to use the larger size with which the weights are more accurate, where one is published.

    Raises:
        ImageError: The spec states no preparation, or the network's input is no picture.
        UnknownTagError: There are no such weights; the message names the nearest.
        FileNotFoundError: There is no such spec.

    >>> prepare = preprocessing("timm/resnet50", weights="a1_in1k")
    >>> print(prepare)  # doctest: +NORMALIZE_WHITESPACE
    RGB, turned as EXIF says; shorter side 235 (bicubic, antialiased); centre of 224 x 224; pixels from 0 to 1;
    less (0.485, 0.456, 0.406); divided by (0.229, 0.224, 0.225)
    >>> import numpy
    >>> prepare(numpy.zeros((427, 640, 3), numpy.uint8)).shape
    (1, 3, 224, 224)
    """
    from resnet_spec.preparation.preparation import preparation_of_network, preparation_of_weights

    if weights is None:
        if test_size:
            raise ValueError("test_size is one of published weights; name them by their tag, as in weights='default'")
        return preparation_of_network(_resolve_network(spec, input, None, {}))
    from resnet_spec.downloads.select import select_published

    shape = None if input is None else check_input(input)
    return preparation_of_weights(select_published(spec, weights), shape, test_size=test_size)


def labels(spec: str | PathLike[str], *, weights: str = "default") -> tuple[str, ...]:
    """Return the names of the classes that a bundled network predicts with published weights, by tag.

    Raises ValueError if the weights have no classes, or a list of classes that is not bundled, and UnknownTagError.

    >>> labels("timm/resnet50", weights="a1_in1k")[0]
    'tench'
    """
    from resnet_spec.downloads.select import select_published
    from resnet_spec.preparation.labels import labels_of_weights

    return labels_of_weights(select_published(spec, weights))


_STORAGE_DTYPES = {"bfloat16": "float32"}
"""Types of weights before they are set in a model, for types that NumPy does not have."""


def _resolve_network(
    spec: str | PathLike[str] | Network,
    input: Sequence[int] | None,
    outputs: Sequence[str] | None,
    settings: Mapping[str, Setting],
) -> Network:
    if not isinstance(spec, Network):
        return load(spec, input=input, outputs=outputs, **settings)
    if input is not None or settings:
        raise TypeError("a loaded network's input and settings are fixed; pass them to load()")
    return spec if outputs is None else with_feature_outputs(spec, outputs)


def _find_published(spec: str | PathLike[str] | Network, weights: Weights | None) -> PublishedWeights | None:
    """Return the published weights that a tag names; None if ``weights`` is no tag. Raises UnknownTagError."""
    if not isinstance(weights, str):
        return None
    from resnet_spec.downloads.select import is_tag, select_published

    return select_published(spec, weights) if is_tag(spec, weights) else None


def _with_published_classes(
    network: Network,
    spec: str | PathLike[str] | Network,
    published: PublishedWeights,
    input: Sequence[int] | None,
    outputs: Sequence[str] | None,
    settings: Mapping[str, Setting],
) -> Network:
    """Return a network with as many classes as published weights have, unless the caller has set how many."""
    known = dict(network.takes).get("classes", published.classes)
    if isinstance(spec, Network) or "classes" in settings or published.classes in (0, known):
        return network
    return load(spec, input=input, outputs=outputs, **settings, classes=published.classes)


def _fetch(published: PublishedWeights) -> Path:
    from resnet_spec.downloads.fetch import fetch

    return fetch(published).path


def _check_options(dtype: str, mode: Mode, compile: bool, checkpoint: str | None) -> None:
    if mode not in get_args(Mode):
        raise ValueError(f"mode is {mode!r}; it can be {' or '.join(get_args(Mode))}")
    if dtype not in DTYPES[mode]:
        raise ValueError(f"dtype is {dtype!r}; it can be {' or '.join(DTYPES[mode])}" + _inference_hint(dtype))
    if compile and mode == "training":
        raise ValueError(
            'compile needs mode="inference"; compile a model for training by the framework\'s own functions'
        )
    if checkpoint not in (None, "blocks"):
        raise ValueError(f"checkpoint is {checkpoint!r}; it can be 'blocks', or be left out")
    if checkpoint and mode == "inference":
        raise ValueError('checkpoint is for training, and mode="inference" keeps no activations; leave it out')


def _check_compute(compute: str | None, dtype: str, mode: Mode) -> None:
    if compute is None:
        return
    if compute not in COMPUTE_DTYPES:
        raise ValueError(f"compute is {compute!r}; it can be {' or '.join(COMPUTE_DTYPES)}")
    if mode == "inference":
        raise ValueError('compute needs mode="training"; in inference mode, dtype="bfloat16" computes in 16 bits')
    if dtype != "float32":
        raise ValueError(f'compute needs weights in float32, not {dtype}; use dtype="float32"')


PROBE = "{name: probe, input: [64, 28, 28], stem: {conv: {op: conv, out: 64, kernel: 3, padding: 1}}}"
"""The convolution by which the speed of a type is measured."""


@lru_cache
def _warn_if_slower(backend: str, dtype: str, mode: Mode) -> None:
    """Warn if a convolution takes longer in a 16-bit type than in float32 where a backend's models are built."""
    from resnet_spec.weights.canonical import initialize

    module, network = load_backend(backend), loads(PROBE)
    if dtype not in module.CAPABILITIES.compute or module.finds_accelerator():
        return
    if mode == "training":
        models = [module.build(network, initialize(network, 0), "float32", compute) for compute in (None, dtype)]
    else:
        make = load_inference(backend, dtype, False)
        models = [make(network, initialize(network, 0), kind) for kind in ("float32", dtype)]
    single, half = (_measure_milliseconds(module, model) for model in models)
    if half > SLOWER * single:
        warnings.warn(
            f"{dtype} is slower than float32 on this processor: a convolution took {half:.2g} ms in {dtype} and "
            f"{single:.2g} ms in float32 just now. Processors with AMX or AVX512-BF16 and GPUs are faster in it; here, "
            f"leave {'compute' if mode == 'training' else 'dtype'} out",
            SlowTypeWarning,
            stacklevel=3,
        )


SLOWER = 1.25
"""How many times as long a 16-bit type must take for a warning: less is noise."""


def _measure_milliseconds(module: Backend, model: Model) -> float:
    """Return the least time of several in which a model evaluates eight images."""
    import numpy as np

    images = np.ones((8, *model.network.input), np.float32)
    seconds = []
    for _ in range(5):  # the first call may compile
        start = perf_counter()
        module.run(model, images)
        seconds.append(perf_counter() - start)
    return 1000 * min(seconds)


def _check_seed(seed: int) -> int:
    """Return a seed as an int; anything else would be a seed as well, since weights are drawn from its text."""
    try:
        return index(seed)
    except TypeError:
        raise ValueError(f"seed must be an integer, not {seed!r}") from None


def _inference_hint(dtype: str) -> str:
    return f', or {dtype} with mode="inference"' if dtype in DTYPES["inference"] else ""


def _check_adaptation(
    head: Head | None,
    stem: Stem | None,
    weights: Weights | None,
    outputs: Sequence[str] | None,
    settings: Mapping[str, Setting],
) -> Adaptation:
    """Return what is to be adapted. Raises ValueError for what has no effect or no meaning."""
    adaptation = Adaptation(head, stem)
    if weights is None and (argument := adaptation.needs_weights()):
        raise ValueError(f"{argument} adapts weights, and there are none: pass weights, or leave it out")
    if head is not None and outputs is not None:
        raise ValueError(f"head={head!r} has no effect with outputs, which end the network before its head")
    if head == "none" and "classes" in settings:
        raise ValueError('classes has no effect with head="none", which leaves the classifier out')
    return adaptation


def _resolve_weights(
    network: Network, weights: Weights | None, seed: int, dtype: str, under: str | None, adaptation: Adaptation
) -> dict[str, Array]:
    from resnet_spec.weights.canonical import initialize

    if weights is None:
        initial = initialize(network, seed)
        return initial if dtype == "float32" else {name: array.astype(dtype) for name, array in initial.items()}
    arrays = _read_weights(network, weights, under, adaptation, seed)
    return {name: array.astype(dtype, copy=False) for name, array in arrays.items()}


def _read_weights(
    network: Network,
    weights: Weights,
    under: str | None,
    adaptation: Adaptation = NOT_ADAPTED,
    seed: int = 0,
) -> dict[str, Array]:
    """Return copies of weights by canonical name. Raises WeightsError if they do not fit, and CheckpointError."""
    if not isinstance(weights, str | PathLike | Mapping):
        raise TypeError(f"weights are a mapping of arrays by name or the path of a checkpoint, not {shorten(weights)}")
    import numpy as np

    from resnet_spec.checkpoints.formats import registry
    from resnet_spec.checkpoints.transfer.adaptation import read_adapted
    from resnet_spec.checkpoints.transfer.live import read_mapping

    is_live = isinstance(weights, Mapping)
    checkpoint = read_mapping(weights) if isinstance(weights, Mapping) else registry.read(weights)
    arrays = read_adapted(network, checkpoint, adaptation, seed, under)
    return {name: np.array(array, order="C") for name, array in arrays.items()} if is_live else arrays


def _convert_images(model: Model, images: ArrayLike) -> Array:
    from resnet_spec.images import convert_images

    return convert_images(images, model.network)
