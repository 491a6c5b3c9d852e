"""Write a folder of test vectors: a model, its input and output, and the reference of every node.

Everything but the gradients comes from the reference in a fixed order of sums, from weights and images in float32, so
that all machines write the same arrays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from resnet_spec.backend import (
    OUTPUT,
    REFERENCE,
    SGD,
    Backend,
    BackendError,
    ExportOptions,
    installed_backends,
    load_backend,
)
from resnet_spec.checkpoints.formats.atomic import create_folder
from resnet_spec.library.load import load
from resnet_spec.network.network import Network
from resnet_spec.network.to_yaml import to_yaml
from resnet_spec.parity.case import (
    GATES,
    LEARNING_RATE,
    MAX_WIDENED_GATE,
    MOMENTUM,
    ROUNDING_FACTOR,
    WEIGHT_DECAY,
    Case,
    Dtype,
    Group,
    Level,
    load_for_comparison,
    without_randomness,
)
from resnet_spec.parity.compare import error_scales, relative_error
from resnet_spec.parity.locate import compute_part_inputs
from resnet_spec.parity.recorder import Momentum
from resnet_spec.parity.reference import complete_record
from resnet_spec.parity.saved_records import installed_versions
from resnet_spec.parity.slopes import central_difference, measure_slopes
from resnet_spec.vectors.index import FILE, Entry, Index, Kind
from resnet_spec.vectors.nodes import list_nodes
from resnet_spec.vectors.tensor_proto import encode_tensor
from resnet_spec.weights.canonical import Array

Arrays: TypeAlias = Mapping[str, Array]
DTYPES: tuple[Dtype, ...] = ("float64", "float32")
SIZES = ((32, 24), (32, 32), (64, 48), (64, 64), (80, 76), (128, 96))
"""Heights and widths of the images, in order of preference: the first that a network accepts.

They are cut to half of the network's own, so that networks for small images, whose maps stay large, are small too.
"""

MODEL_FILE, NETWORK_FILE, DATA_FOLDER = "model.onnx", "network.yaml", "test_data_set_0"


class RoundedCase(Case):
    """A parity case whose weights and images are those of the files: numbers that float32 holds.

    Rounding also absorbs the last bit in which machines may differ when normal numbers are drawn.
    """

    __slots__ = ()

    def weights(self, dtype: Dtype = "float64") -> dict[str, Array]:
        """Return the weights of the case, rounded to float32."""
        return {name: array.astype(np.float32).astype(dtype) for name, array in super().weights().items()}

    def images(self) -> Array:
        """Return the images of the case, rounded to float32."""
        return super().images().astype(np.float32).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Request:
    """What a folder of test vectors is made from.

    Attributes:
        network: The network, at the size of its image.
        level: "forward" for nodes, "gradient" for gradients too, "training" for a training step too.
        seed: The seed of weights, images and labels.
        batch: The number of images of the model and of its nodes.
        opset: The version of ONNX's operators; None for the default.
        gradients: The backend that computes gradients; by default, the first one that is installed and can.
        origin: What the caller adds to the index about the origin of the folder.
    """

    network: Network
    level: Level = "forward"
    seed: int = 0
    batch: int = 1
    opset: int | None = None
    gradients: str | None = None
    origin: Mapping[str, Any] = field(default_factory=dict)

    @property
    def case(self) -> Case:
        """The parity case with the same weights, images and labels."""
        return RoundedCase(self.network, "float64", self.level, self.seed)


def load_small(spec: str, **settings: Any) -> Network:
    """Load a network with the first of SIZES that it accepts, or else with its own size. Raises SpecError."""
    _, *own = load(spec, **settings).input
    sizes = [(min(height, max(1, own[0] // 2)), min(width, max(1, own[1] // 2))) for height, width in SIZES]
    return load_for_comparison(spec, sizes, **settings)


def write_vectors(request: Request, folder: Path) -> Index:
    """Write a folder of test vectors; return its index. The folder appears complete or not at all.

    Raises BackendError if ONNX is not installed or, for gradients, no backend computes them, and FileExistsError if
    the folder exists and holds something.
    """
    case, weights = request.case, request.case.weights("float32")
    onnx = load_backend("onnx")
    with create_folder(folder) as part:
        writer = _Writer(part)
        (part / NETWORK_FILE).write_text(to_yaml(case.network), encoding="utf-8")
        model = onnx.build(case.network, dict(weights), "float32")
        onnx.export(model, part / MODEL_FILE, ExportOptions("onnx", request.batch, opset=request.opset))
        _write_nodes(request, weights, writer)
        made_by = _describe_origin(request)
        if request.level != "forward":
            made_by["gradients"] = _write_training(request, weights, writer)
        index = Index(made_by, tuple(writer.entries))
        (part / FILE).write_text(index.to_json(), encoding="utf-8")
    return index


def _describe_origin(request: Request) -> dict[str, Any]:
    network = request.network
    return {
        **request.origin,
        "network": network.name,
        "fingerprint": network.fingerprint,
        "input": network.input,
        "batch": request.batch,
        "level": request.level,
        "seed": request.seed,
        "versions": installed_versions(),
    }


class _Writer:
    """Writes arrays to a folder and keeps their entries."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.entries: list[Entry] = []

    def add(self, entry: Entry, arrays: Mapping[Dtype, Array]) -> None:
        """Write an array in each of some dtypes, and add its entry with their files."""
        files: dict[Any, str] = {dtype: f"{_FOLDERS[entry.kind]}/{entry.name}.{dtype}.npy" for dtype in arrays}
        for dtype, array in arrays.items():
            self.save(files[dtype], array)
        self.entries.append(replace(entry, files=files))

    def save(self, file: str, array: Array) -> None:
        """Write an array to a file in the folder, in NumPy's format."""
        path = self.folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, array, allow_pickle=False)


_FOLDERS: dict[Kind, str] = {"node": "nodes", "gradient": "gradient", "statistic": "statistic", "weight": "weight"}


def _write_nodes(request: Request, weights: Arrays, writer: _Writer) -> None:
    """Write the images and the outputs of the model, and every node in float64 and float32."""
    network = request.network
    images = np.random.default_rng(request.seed).standard_normal((request.batch, *network.input)).astype(np.float32)
    values = {dtype: _run_nodes(network, weights, images, dtype) for dtype in DTYPES}
    for node in list_nodes(network):
        arrays = {dtype: values[dtype][node.name] for dtype in DTYPES}
        double, single = arrays["float64"], arrays["float32"]
        shapes = tuple((len(images), *shape) for shape in node.input_shapes)
        scale = float(np.abs(double).max()) if double.size else 0.0
        tolerance = {"float64": GATES["float64"]["evaluation"], "float32": _tolerance(double, single)}
        writer.add(Entry(node.name, "node", node.operation, shapes, double.shape, {}, tolerance, scale), arrays)
    data = writer.folder / DATA_FOLDER
    data.mkdir()
    (data / "input_0.pb").write_bytes(encode_tensor("input", images))
    for number, path in enumerate(network.outputs or (network.parts[-1].path,)):
        (data / f"output_{number}.pb").write_bytes(encode_tensor(path, values["float32"][path]))


def _tolerance(double: Array, single: Array) -> float | None:
    """Return the gate of a node in float32, as parity derives it: fixed, or wider by what rounding explains."""
    explained = ROUNDING_FACTOR * relative_error(double, single.astype(np.float64))
    gate = max(GATES["float32"]["evaluation"], explained)
    return float(f"{gate:.3g}") if gate <= MAX_WIDENED_GATE else None


def _run_nodes(network: Network, weights: Arrays, images: Array, dtype: Dtype) -> dict[str, Array]:
    """Return the value of every node by name, and of every part by path."""
    backend = load_backend(REFERENCE)
    images = images.astype(dtype)
    model = _build_ordered(backend, network, weights, dtype)
    outputs = backend.run(model, images, [part.path for part in network.nodes()])
    inputs = compute_part_inputs(network, images, outputs)
    return {**outputs, **{node.name: node.array(inputs, outputs) for node in list_nodes(network)}}


def _build_ordered(backend: Backend, network: Network, weights: Arrays, dtype: Dtype) -> Any:
    model = backend.build(network, {name: array.astype(dtype) for name, array in weights.items()}, dtype)
    backend.fix_order(model)
    return model


def _write_training(request: Request, weights: Arrays, writer: _Writer) -> dict[str, Any]:
    """Write gradients and, if asked, a training step; return what the index says about them."""
    case = request.case
    name, backend = _find_trainer(request.gradients)
    images = case.images().astype(np.float32)
    model = backend.build(without_randomness(case.network), _in_float64(weights), "float64")
    sgd = SGD(LEARNING_RATE, MOMENTUM, WEIGHT_DECAY)
    step = backend.step(model, images.astype(np.float64), case.labels(), sgd)
    gradients = {**step.gradients, "input": step.output_gradients["input"]}
    _check_gradients(case, name, gradients)
    writer.save("gradient/images.npy", images)
    writer.save("gradient/labels.npy", case.labels())
    record = _record_training(case, weights, images)
    for group, kind, arrays in _training_groups(case, weights, record, gradients, sgd):
        scales = error_scales(case, group, arrays)
        tolerance = {
            dtype: replace(case, dtype=dtype).gate(group) if group in GATES[dtype] else None for dtype in DTYPES
        }
        for key, array in arrays.items():
            entry = Entry(key or group, kind, "", (), array.shape, {}, tolerance, scales[key])
            writer.add(entry, {"float64": array})
    update = {"rate": sgd.rate, "momentum": sgd.momentum, "weight_decay": sgd.weight_decay}
    return {"backend": name, "batch": len(images), **update}


def _find_trainer(name: str | None) -> tuple[str, Backend]:
    """Return the backend that computes gradients in float64, and its name. Raises BackendError if there is none."""
    for candidate in [name] if name else installed_backends():
        backend = load_backend(candidate)
        if backend.CAPABILITIES.gradients:
            return candidate, backend
    if name:
        raise BackendError(f"backend {name!r} computes no gradients")
    raise BackendError("no backend that computes gradients is installed; try: pip install 'resnet-spec[torch]'")


def _in_float64(weights: Arrays) -> dict[str, Array]:
    return {name: array.astype(np.float64) for name, array in weights.items()}


def _check_gradients(case: Case, name: str, gradients: Arrays) -> None:
    """Raise BackendError if gradients do not agree with differences of the reference's loss, which has none."""
    reference, gate = load_backend(REFERENCE), GATES["float64"]["slope"]
    slopes = measure_slopes(
        case, {name: gradients}, lambda number, step: central_difference(reference, case, number, step), gate
    )
    if not slopes[name].error <= gate:
        raise BackendError(
            f"the gradients of backend {name!r} are off by {slopes[name].error:.1e} from differences of the "
            f"reference's loss; resnet-spec parity {case.network.name} --backend {name} finds the part at fault"
        )


def _record_training(case: Case, weights: Arrays, images: Array) -> Mapping[Group, Arrays]:
    """Return the reference's loss and its running statistics after one step."""
    backend = load_backend(REFERENCE)
    network = without_randomness(case.network)
    model = _build_ordered(backend, network, weights, "float64")
    paths = [part.path for part in network.nodes()]
    outputs = backend.run(model, images.astype(np.float64), paths, train=True)
    return complete_record(case, {"training forward": outputs})


def _training_groups(
    case: Case, weights: Arrays, record: Mapping[Group, Arrays], gradients: Arrays, sgd: SGD
) -> Iterator[tuple[Group, Kind, Arrays]]:
    yield "loss", "gradient", {OUTPUT: record["loss"][OUTPUT]}
    yield "gradient", "gradient", gradients
    if case.level != "training":
        return
    if "statistics" in record:
        yield "statistics", "statistic", record["statistics"]
    parameters = {name: array for name, array in _in_float64(weights).items() if name in gradients}
    update = Momentum(sgd, parameters)
    update.step({name: array for name, array in gradients.items() if name != "input"})
    yield "weights", "weight", update.weights
