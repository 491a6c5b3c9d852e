"""What is specific to PyTorch models built for inference: fused operators, the compiler, and changes by the user."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import numpy as np
import pytest

from resnet_spec import Network, build, capture, dump, load_weights, loads, run
from resnet_spec.backend import SGD, BackendError, load_backend
from resnet_spec.parity.random_networks import generate_network
from resnet_spec.weights.canonical import Array, comparison_weights, initialize
from shared.array_differences import relative_difference
from shared.frameworks import REQUIRED

if "torch" in REQUIRED:
    load_backend("torch")  # an installation that fails to import is an error then, not a skip
torch: Any = pytest.importorskip("torch")
from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402
from torch.nn.utils.parametrize import register_parametrization  # noqa: E402

from resnet_spec_torch import fusion, inference  # noqa: E402
from resnet_spec_torch.fusion import CudnnConvolution, FusedConvolution, OneDnnConvolution, describe_layout  # noqa: E402
from resnet_spec_torch.graphs import MAX_BATCH, MAX_GRAPHS, GraphCache  # noqa: E402

LABELS = np.array([0, 1])
ONE_BLOCK = "{name: s, input: [3, 16, 16], stages: {a: {block: basic, depth: 1, out: 8, stride: 2}}}"


def draw_images(network: Network) -> Array:
    return np.random.default_rng(0).standard_normal((2, *network.input))


def build_resnet18() -> Any:
    return build("resnet18", backend="torch", mode="inference", input=(3, 32, 32), classes=5)


def difference(actual: Array, expected: Array) -> float:
    """Return the relative difference in float64."""
    return relative_difference(actual.astype(float), expected.astype(float))


@pytest.mark.parametrize("norm", ["{op: group_norm, groups: 2}", "{op: group_norm, size: 1}"])
def test_a_group_norm_of_values_far_from_zero_is_accurate(norm: str) -> None:
    """With channels last, torch's own would be wrong by 1e-3."""
    network = loads(
        f"{{name: n, input: [3, 48, 48], stem: {{c: {{op: conv, out: 8, kernel: 3, bias: true}}, n: {norm}}}}}"
    )
    weights = initialize(network) | {"c.bias": np.full(8, 30.0)}
    x = draw_images(network)
    model = build(network, backend="torch", weights=weights, mode="inference", dtype="float32")
    expected = run(build(network, backend="numpy", weights=weights), x)
    assert difference(run(model, x.astype(np.float32)), expected) < 1e-5


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.share(2)
def test_random_networks_compute_the_same(seed: int) -> None:
    network = generate_network(seed)
    weights, x = comparison_weights(network), draw_images(network)
    expected = run(build(network, backend="numpy", weights=weights), x)
    model = build(network, backend="torch", weights=weights, mode="inference")
    assert difference(run(model, x), expected) < 1e-5


def test_weights_are_buffers_in_the_layout_in_which_they_are_computed_with() -> None:
    model = build_resnet18()
    buffers = {name.replace("/", "."): tensor for name, tensor in model.named_buffers()}
    assert {name: tuple(tensor.shape) for name, tensor in buffers.items()} == model.network.weights()
    assert {tensor.is_mkldnn for name, tensor in buffers.items() if "conv" in name and name.endswith("weight")} == {
        True
    }
    assert [*model.modules()] == [model]


def test_a_buffer_that_is_changed_in_place_is_computed_with() -> None:
    """A model has each weight once, so its answer, its state and its copies agree after any change."""
    model = build_resnet18()
    x = draw_images(model.network)
    before = run(model, x)
    for buffer in model.buffers():
        buffer.mul_(1.1)
    after = run(model, x)
    assert difference(after, before) > 1e-2
    assert difference(run(build(model.network, backend="torch", weights=dump(model)), x), after) < 1e-5


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN")
@pytest.mark.parametrize("counts", [(8, 8), (8, 1, 1, 8, 8), (2, 3, 1, 1), (1, 8, 8, 1, 1)])
def test_a_kernel_has_the_layout_that_the_last_sizes_need(two_threads: None, counts: tuple[int, ...]) -> None:
    """oneDNN would reorder another one at each call, which takes longer than the convolution."""
    torch.manual_seed(0)
    plain = torch.nn.Conv2d(256, 64, 1).requires_grad_(False).to(memory_format=torch.channels_last)
    stored: list[Any] = []
    packed = OneDnnConvolution(plain, (256, 14, 14), stored.append)
    for count in counts:
        x = torch.randn(count, 256, 14, 14).to(memory_format=torch.channels_last)
        torch.testing.assert_close(packed(x), plain(x))
    needed = torch.ops.mkldnn._reorder_convolution_weight(plain.weight, *packed.window, list(x.shape))
    assert describe_layout(packed.weight) == describe_layout(needed)
    assert stored[-1] is packed.weight


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN")
def test_images_whose_size_changes_are_not_packed_for(two_threads: None) -> None:
    plain = torch.nn.Conv2d(3, 8, 3).requires_grad_(False)
    stored: list[Any] = []
    packed = OneDnnConvolution(plain, (3, 14, 14), stored.append)
    before = len(stored)
    for size in (10, 12, 14, 16, 10, 12):
        packed(torch.zeros(8, 3, size, size))
    assert len(stored) == before


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN")
def test_two_threads_leave_the_tensor_that_runs_as_the_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread has replaced the kernel, but not yet the buffer, when another one would replace both."""
    monkeypatch.setattr(fusion, "describe_layout", lambda packed: object())  # so that each size is packed for
    plain = torch.nn.Conv2d(256, 64, 1).requires_grad_(False).to(memory_format=torch.channels_last)
    buffers: list[Any] = []
    is_storing, other_done = threading.Event(), threading.Event()

    def store(kernel: Any) -> None:
        if threading.current_thread().name == "slow":
            is_storing.set()
            other_done.wait(5)
        buffers.append(kernel)

    packed = OneDnnConvolution(plain, (256, 14, 14), store)

    def run_twice(count: int, size: int) -> None:
        for _ in range(2):
            packed(torch.zeros(count, 256, size, size).to(memory_format=torch.channels_last))

    slow = threading.Thread(target=run_twice, args=(8, 14), name="slow")
    slow.start()
    assert is_storing.wait(5)
    other = threading.Thread(target=run_twice, args=(1, 28))
    other.start()
    other.join(1)
    other_done.set()
    slow.join()
    other.join()
    assert buffers[-1] is packed.weight


def test_kernels_packed_in_inference_mode_can_be_changed_outside(two_threads: None) -> None:
    model = build("resnet18", backend="torch", mode="inference", input=(3, 64, 64), classes=5)
    x = torch.randn(8, 3, 64, 64)
    with torch.inference_mode():
        for _ in range(3):
            before = model(x).clone()
    for buffer in model.buffers():
        buffer.mul_(1.1)
    assert difference(model(x).numpy(), before.numpy()) > 1e-2


def test_shapes_can_be_inferred_with_fake_tensors() -> None:
    model = build(
        loads("{name: n, input: [3, 12, 12], stem: {c: {op: conv, out: 8, kernel: 3}, r: relu}}"),
        backend="torch",
        mode="inference",
    )
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert model(torch.empty(2, 3, 12, 12)).shape == (2, 8, 10, 10)


@pytest.mark.parametrize(("shape", "words"), [((2, 4, 64, 64), "3 channels"), ((2, 3, 5, 5), "Kernel size")])
def test_images_of_a_wrong_shape_are_refused_in_torchs_words(shape: tuple[int, ...], words: str) -> None:
    text = "{name: n, input: [3, 64, 64], stem: {c: {op: conv, out: 8, kernel: 7}}}"
    model = build(loads(text), backend="torch", mode="inference")
    for _ in range(3):
        with pytest.raises(RuntimeError, match=words):
            model(torch.zeros(shape))


def test_weights_that_were_packed_anew_are_buffers(two_threads: None) -> None:
    model = build("resnet18", backend="torch", mode="inference", input=(3, 64, 64), classes=5)
    x = np.random.default_rng(0).standard_normal((8, 3, 64, 64), np.float32)
    before = dump(model)
    for _ in range(2):
        outputs = run(model, x)
    assert {name: array.tobytes() for name, array in dump(model).items()} == {
        name: array.tobytes() for name, array in before.items()
    }
    for buffer in model.buffers():
        buffer.mul_(1.1)
    after = run(model, x)
    assert difference(after, outputs) > 1e-2
    assert difference(run(build(model.network, backend="torch", weights=dump(model)), x), after) < 1e-5
    assert difference(run(copy.deepcopy(model), x), after) < 1e-5


def test_threads_run_a_model_with_batches_of_several_sizes(two_threads: None) -> None:
    model = build("resnet18", backend="torch", mode="inference", input=(3, 64, 64), classes=5)
    x = np.random.default_rng(0).standard_normal((8, 3, 64, 64), np.float32)
    expected = run(model, x)

    def run_some(seed: int) -> float:
        counts = np.random.default_rng(seed).integers(1, 9, 12)
        return max(difference(run(model, x[:count]), expected[:count]) for count in counts.repeat(2))

    with ThreadPoolExecutor(8) as pool:
        assert max(pool.map(run_some, range(8))) < 1e-5


class FakeCudnn:
    """Stands in for cuDNN's fused calls, which need a GPU, and counts them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        monkeypatch.setattr(torch, "cudnn_convolution_relu", self.relu)
        monkeypatch.setattr(torch, "cudnn_convolution_add_relu", self.add_relu)

    def relu(self, x: Any, weight: Any, bias: Any, *window: Any) -> Any:
        self.calls.append("relu")
        return torch.conv2d(x, weight, bias, *window).relu()

    def add_relu(self, x: Any, weight: Any, other: Any, alpha: float, bias: Any, *window: Any) -> Any:
        self.calls.append("add relu")
        return (torch.conv2d(x, weight, bias, *window) + alpha * other).relu()


@pytest.mark.parametrize("kind", [CudnnConvolution, FusedConvolution])
@pytest.mark.share(4)
def test_every_kind_of_convolution_computes_the_same(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cudnn = FakeCudnn(monkeypatch)
    monkeypatch.setattr(inference, "choose_convolution", lambda *arguments: kind)
    for seed in range(6):
        network = generate_network(seed)
        weights, x = comparison_weights(network), draw_images(network)
        expected = run(build(network, backend="numpy", weights=weights), x)
        assert difference(run(build(network, backend="torch", weights=weights, mode="inference"), x), expected) < 1e-5
    cudnn.calls.clear()
    run(build_resnet18(), np.zeros((1, 3, 32, 32)))
    assert [*map(cudnn.calls.count, ("relu", "add relu"))] == ([9, 8] if kind is CudnnConvolution else [0, 0])


CHANGES: dict[str, Callable[[Any], Any]] = {
    "weights in place": lambda model: model.conv1.weight.data.mul_(3),
    "an appended module": lambda model: model.layer1.append(torch.nn.Tanh()),
    "a module": lambda model: setattr(model, "fc", torch.nn.Linear(512, 7)),
    "a parameter": lambda model: setattr(model, "scale", torch.nn.Parameter(torch.ones(1))),
    "an added module": lambda model: model.add_module("fc2", torch.nn.Tanh()),
    "a registered module": lambda model: model.register_module("fc2", torch.nn.Tanh()),
    "a registered parameter": lambda model: model.register_parameter("scale", torch.nn.Parameter(torch.ones(1))),
    "a buffer": lambda model: model.register_buffer("scale", torch.ones(1)),
    "a parametrization": lambda model: register_parametrization(model.conv1, "weight", torch.nn.Tanh()),
    "a hook of a part": lambda model: model.layer1[0].conv1.register_forward_hook(print),
    "the mode": lambda model: model.train(),
    "the mode by its attribute": lambda model: setattr(model, "training", True),
    "the network": lambda model: setattr(model, "network", None),
    "the type by its attribute": lambda model: setattr(model, "dtype", torch.float64),
    "a deleted module": lambda model: delattr(model, "fc"),
    "gradients": lambda model: model.requires_grad_(),
    "a state dict": lambda model: model.load_state_dict(model.state_dict()),
    "a trace": torch.fx.symbolic_trace,
    "a trace by torch.jit": lambda model: torch.jit.trace(model, torch.zeros(1, 3, 32, 32)),
    "a script": torch.jit.script,
    "a training step": lambda model: load_backend("torch").step(model, draw_images(model.network), LABELS, SGD()),
    "a training run": lambda model: load_backend("torch").run(model, draw_images(model.network), train=True),
    "gradients of a part": lambda model: load_backend("torch").vjp(model, "fc", np.ones((2, 512)), np.ones((2, 5))),
}
"""What would change or train a model, by what it would change."""


@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")
def test_a_change_is_refused_and_leaves_the_model_as_it_was() -> None:
    model = build_resnet18()
    x = draw_images(model.network)
    expected = run(model, x)
    for what, change in CHANGES.items():
        with pytest.raises((AttributeError, TypeError, BackendError), match=r'mode="training"|load_weights'):
            change(model)
        assert np.array_equal(run(model, x), expected), what
    model.state_dict()["conv1.weight"].mul_(3)  # copies
    dump(model)["conv1.weight"] *= 3
    assert [*model.parameters()] == []
    assert not model.eval().training
    assert np.array_equal(run(model, x), expected)


def test_a_state_dict_has_the_weights_under_their_names() -> None:
    model = build_resnet18()
    weights = dump(model)
    state = torch.nn.ModuleDict({"backbone": model}).state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == {
        f"backbone.{name}": array.shape for name, array in weights.items()
    }
    assert np.array_equal(state["backbone.fc.weight"].numpy(), weights["fc.weight"])


def test_a_hook_of_the_whole_model_is_called() -> None:
    model = build_resnet18()
    outputs: list[Any] = []
    model.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    run(model, draw_images(model.network))
    assert len(outputs) == 1


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.share(2)
def test_a_model_can_be_converted_to_another_type(compile: bool) -> None:
    network = loads(ONE_BLOCK)
    weights, x = initialize(network), draw_images(network)
    model = build(network, backend="torch", weights=weights, mode="inference", compile=compile)
    before = run(model, x)
    model.to(torch.float64)
    after, expected = run(model, x), run(build(network, backend="numpy", weights=weights), x)
    assert before.dtype == np.float32
    assert 1e-9 < difference(before, expected) < 1e-5
    assert difference(after, expected) < 1e-7  # the weights are folded in float32
    assert {array.dtype for array in dump(model).values()} == {np.dtype("float64")}


@pytest.mark.parametrize(
    "convert",
    [
        lambda model, x: torch.compile(model, backend="aot_eager", fullgraph=True),
        lambda model, x: torch.export.export(model, (x,)).module(),
    ],
)
def test_a_user_can_compile_and_export_it(convert: Callable[[Any, Any], Any]) -> None:
    model = build(loads(ONE_BLOCK), backend="torch", mode="inference")
    x = torch.from_numpy(draw_images(model.network)).float()
    assert torch.allclose(convert(model, x)(x), model(x), rtol=1e-5, atol=1e-5)


def test_a_model_prints_its_layers() -> None:
    assert repr(build_resnet18()).startswith("Inference(\n  (conv1): Conv2d(3, 64")


def test_images_may_have_another_dtype_and_memory_format_and_stay_unchanged() -> None:
    model = build_resnet18()
    x = torch.from_numpy(draw_images(model.network))
    before = x.clone()
    y = model(x)
    assert y.dtype == torch.float64
    assert not y.requires_grad
    assert torch.equal(x, before)
    channels_last = x.float().contiguous(memory_format=torch.channels_last)
    assert torch.allclose(model(channels_last), y.float(), atol=1e-5)


def test_a_compiled_model_computes_the_same() -> None:
    network = loads(ONE_BLOCK)
    weights, x = initialize(network), draw_images(network)
    model = build(network, backend="torch", weights=weights, mode="inference", compile=True)
    assert isinstance(model, torch.nn.Module)
    plain = build(network, backend="torch", weights=weights)
    assert difference(run(model, x), run(plain, x)) < 1e-5
    actual, expected = capture(model, x, ["a.0.conv1"])["a.0.conv1"], capture(plain, x, ["a.0.bn1"])["a.0.bn1"]
    assert difference(actual, expected) < 1e-5


def test_a_compiled_model_takes_batches_of_any_size_and_changed_weights() -> None:
    network = loads(ONE_BLOCK)
    model = build(network, backend="torch", mode="inference", compile=True)
    x = np.random.default_rng(0).standard_normal((5, *network.input))
    before = run(model, x)
    for count in (2, 3, 1):
        assert difference(run(model, x[:count]), before[:count]) < 1e-5
    load_weights(model, {name: array / 2 for name, array in dump(model).items()})
    for factor in (1.0, 1.5):
        for buffer in model.buffers():
            buffer.mul_(factor)
        changed = build(model.network, backend="torch", weights=dump(model))
        assert difference(run(model, x), run(changed, x)) < 1e-5
        assert difference(run(model, x), before) > 1e-2


class FakeGraph:
    """Stands in for a CUDA graph: it computes by the function itself, and only for images of its own shape."""

    captured: ClassVar[list[tuple[int, ...]]] = []

    def __init__(self, function: Any, x: Any) -> None:
        self.captured.append(tuple(x.shape))
        self.function, self.shape = function, x.shape

    def __call__(self, x: Any) -> Any:
        assert x.shape == self.shape
        return self.function(x)


def test_graphs_are_kept_by_shape_for_small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeGraph, "captured", [])
    cache = GraphCache(lambda x: x * 2, FakeGraph)
    for batch in (1, 2, 1, MAX_BATCH, MAX_BATCH + 1, 2, 1):
        x = torch.ones(batch, 3)
        assert torch.equal(cache(x), x * 2)
    assert FakeGraph.captured == [(1, 3), (2, 3), (MAX_BATCH, 3)]
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", not torch.backends.cudnn.deterministic)
    cache(torch.ones(1, 3))
    assert FakeGraph.captured[3:] == [(1, 3)]


def test_the_graphs_that_are_kept_are_those_used_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeGraph, "captured", [])
    cache = GraphCache(lambda x: x, FakeGraph)
    for size in (*range(1, MAX_GRAPHS + 1), 1, MAX_GRAPHS + 1, 1, 2):
        cache(torch.ones(1, size))
    assert FakeGraph.captured[MAX_GRAPHS:] == [(1, MAX_GRAPHS + 1), (1, 2)]
