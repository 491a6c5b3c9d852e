"""Test each rule of the language in a minimal spec."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from resnet_spec import Network, SpecError, load, loads
from resnet_spec.library.load import find_source
from resnet_spec.network.parts import Chain, Parallel, Residual
from resnet_spec.ops import Conv


def small(body: str, takes: str = "") -> Network:
    """Load a spec with an input of 4 x 8 x 8."""
    return loads(f"name: small\ninput: [4, 8, 8]\n{takes}\n{body}")


def paths(network: Network) -> list[str]:
    return [leaf.path for leaf in network.leaves()]


def test_mappings_name_layers_and_lists_number_them() -> None:
    network = small("stem: {a: {op: conv, out: 4, kernel: 1}, b: [norm, act], c: {d: {e: act}}}")
    assert paths(network) == ["a", "b.0", "b.1", "c.d.e"]


def test_none_omits_a_layer_and_keeps_the_indices_of_the_others() -> None:
    assert paths(small("stem: {a: [none, norm, act]}")) == ["a.1", "a.2"]


def test_an_argument_of_the_spec_stands_for_its_value() -> None:
    network = small("stem: {a: {op: conv, out: width, kernel: 1}}", "takes: {width: 7}")
    assert network.output_shape == (7, 8, 8)


def test_in_is_the_number_of_input_channels() -> None:
    assert small("stem: {a: {op: conv, out: in, kernel: 1}}").output_shape == (4, 8, 8)


def test_norm_and_act_are_predefined() -> None:
    assert [type(leaf.op).__name__ for leaf in small("stem: {a: norm, b: act}").leaves()] == ["BatchNorm", "Relu"]


def test_layers_redefines_norm_and_act_in_every_block() -> None:
    layers = "layers: {norm: {op: group_norm, groups: 2}, act: silu}"
    network = small(f"{layers}\nstages: {{s: {{block: basic, depth: 1, out: 4}}}}")
    kinds = {leaf.path.rpartition(".")[2]: type(leaf.op).__name__ for leaf in network.leaves()}
    assert kinds["bn1"] == "GroupNorm"
    assert kinds["relu2"] == "Silu"


def test_defaults_apply_to_arguments_that_a_layer_does_not_set() -> None:
    network = small("defaults: {conv: {bias: true}}\nstem: {a: {op: conv, out: 4, kernel: 1}}")
    assert list(network.weights()) == ["a.weight", "a.bias"]


def test_a_list_holds_one_value_per_block() -> None:
    network = small("stages: {s: {block: bottleneck, depth: 3, out: 8, width: [2, 3, 4]}}")
    widths = [network.weights()[f"s.{index}.conv1.weight"][0] for index in range(3)]
    assert widths == [2, 3, 4]


def test_a_single_stride_applies_to_the_first_block() -> None:
    network = small("stages: {s: {block: basic, depth: 3, out: 4, stride: 2}}")
    assert [part.output_shape for part in network.nodes() if isinstance(part, Residual)] == [(4, 4, 4)] * 3


def test_a_list_of_strides_has_one_per_block() -> None:
    network = small("stages: {s: {block: basic, depth: 3, out: 4, stride: [1, 1, 2]}}")
    assert [part.output_shape[1] for part in network.nodes() if isinstance(part, Residual)] == [8, 8, 4]


def test_a_list_of_blocks_has_one_per_block() -> None:
    network = small(
        "blocks: {plain: {takes: {out: required}, combine: none, branch: {c: {op: conv, out: out, kernel: 1}}}}\n"
        "stages: {s: {block: [plain, basic], depth: 2, out: 4}}"
    )
    assert [type(part) for part in network.nodes() if part.path in {"s.0", "s.1"}] == [Chain, Residual]


@pytest.mark.parametrize(("numbering", "first"), [("blocks.{index}", "s.blocks.0"), ("b{number}", "s.b1")])
def test_as_sets_the_names_of_blocks(numbering: str, first: str) -> None:
    network = small(f'stages: {{s: {{block: basic, depth: 1, out: 4, as: "{numbering}"}}}}')
    assert paths(network)[0] == f"{first}.conv1"


@pytest.mark.parametrize(("project", "projected"), [("changed", []), ("first", [0]), ("always", [0, 1]), ("never", [])])
def test_project_sets_when_shortcut_layers_are_used(project: str, projected: list[int]) -> None:
    network = small(f"stages: {{s: {{block: basic, depth: 2, out: 4, project: {project}}}}}")
    blocks = [part for part in network.nodes() if isinstance(part, Residual)]
    assert [index for index, block in enumerate(blocks) if block.shortcut] == projected


def test_branch_and_shortcut_layers_read_the_output_of_before() -> None:
    block = """
blocks:
  pre:
    takes: {out: required}
    before: {bn: norm}
    branch: {c: {op: conv, out: out, kernel: 3, padding: 1}}
    shortcut: {p: {op: conv, out: out, kernel: 1}}
stages: {s: {block: pre, depth: 2, out: 6}}
"""
    first, second = (part for part in small(block).nodes() if isinstance(part, Residual))
    assert (first.before[0].path, first.shortcut[0].input_shape) == ("s.0.bn", (4, 8, 8))
    assert second.shortcut == ()


def test_a_gate_multiplies() -> None:
    network = small("stem: {se: {block: squeeze_excite, reduced: 2}}")
    (gate,) = (part for part in network.nodes() if isinstance(part, Residual))
    assert (gate.combine, gate.output_shape) == ("multiply", (4, 8, 8))
    assert network.weights()["se.fc2.weight"] == (4, 2, 1, 1)


def test_weights_are_in_the_order_of_the_written_sections() -> None:
    block = """
blocks:
  b:
    shortcut: {p: {op: conv, out: 6, kernel: 1}}
    branch: {c: {op: conv, out: 6, kernel: 1}}
stages: {s: {block: b, depth: 1}}
"""
    assert list(small(block).weights()) == ["s.0.p.weight", "s.0.c.weight"]


def test_weights_of_a_plain_chain_are_in_the_order_of_its_written_sections() -> None:
    layer = "{op: conv, out: 6, kernel: 1}"
    block = f"blocks: {{b: {{combine: none, branch: {{c: {layer}}}, before: {{p: {layer}, n: norm}}}}}}"
    network = small(f"{block}\nstem: {{s: {{block: b}}}}")
    assert [leaf.path for leaf in network.leaves()] == ["s.p", "s.n", "s.c"]
    assert [name for name in network.weights() if "weight" in name] == ["s.c.weight", "s.p.weight", "s.n.weight"]


def test_weights_with_the_same_prefix_are_adjacent() -> None:
    network = small("stem: {a.0: {op: conv, out: 4, kernel: 1}, b.0: norm, a.1: {op: conv, out: 4, kernel: 1}}")
    assert [name for name in network.weights() if "weight" in name] == ["a.0.weight", "a.1.weight", "b.0.weight"]


def test_a_default_may_be_another_argument() -> None:
    branch = "branch: {c: {op: conv, out: width, kernel: 1}}"
    block = f"blocks: {{b: {{takes: {{out: required, width: out}}, combine: none, {branch}}}}}"
    assert small(f"{block}\nstem: {{x: {{block: b, out: 5}}}}").output_shape == (5, 8, 8)


def test_a_default_may_be_the_number_of_input_channels() -> None:
    branch = "branch: {c: {op: conv, out: out, kernel: 1, groups: groups}}"
    block = f"blocks: {{b: {{takes: {{out: required, groups: in}}, combine: none, {branch}}}}}"
    network = small(f"{block}\nstem: {{w: {{op: conv, out: 5, kernel: 1}}, x: {{block: b, out: 10}}}}")
    assert network.weights()["x.c.weight"] == (10, 1, 1, 1)


def test_an_argument_may_be_a_block_with_some_arguments() -> None:
    stage = "{block: basic, depth: 1, out: 8, projection: {block: conv_projection, bias: true}}"
    assert "s.0.downsample.0.bias" in small(f"stages: {{s: {stage}}}").weights()


def test_a_name_is_resolved_where_it_is_written() -> None:
    """A layer that is passed to a block keeps the meaning of ``out`` outside, even if the block takes ``out`` too."""
    body = """
blocks:
  outer: {takes: {inner: required, out: 3}, combine: none, branch: {x: inner}}
stem: {a: {block: outer, inner: {op: conv, out: out, kernel: 1}}}
"""
    assert small(body, "takes: {out: 9}").output_shape == (9, 8, 8)


def test_a_word_keeps_its_meaning_where_an_argument_has_its_name() -> None:
    """``padding: half`` is half of the kernel, also if it is passed to a block by one that takes ``half``."""
    body = """
blocks:
  outer:
    takes: {half: required}
    combine: none
    branch: {x: {block: conv_norm_act, out: half, kernel: 3, padding: half}}
stem: {a: {block: outer, half: 5}}
"""
    assert small(body).output_shape == (5, 8, 8)


def test_numbers_may_have_an_exponent_or_no_leading_zero() -> None:
    (first, second) = small("stem: {a: {op: batch_norm, epsilon: 1e-3}, b: {op: batch_norm, epsilon: .001}}").leaves()
    assert first.op == second.op


def test_ceil_drops_a_last_window_that_starts_in_the_padding() -> None:
    network = loads(
        "{name: s, input: [1, 7, 8], stem: {a: {op: max_pool, kernel: 2, stride: 2, padding: 1, ceil: true}}}"
    )
    assert network.output_shape == (1, 4, 5)


# -- extends ------------------------------------------------------------------------------------------------------


def write_specs(folder: Path, **files: str) -> Path:
    """Write spec files by name, and return the path of the first."""
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder / f"{next(iter(files))}.yaml"


def test_extends_merges_mappings_and_replaces_other_values(tmp_path: Path) -> None:
    child = write_specs(tmp_path, child="{name: child, extends: resnet18, stages: {layer4: {out: 100}}}")
    network = load(child)
    assert network.name == "child"
    assert network.weights()["fc.weight"] == (1000, 100)
    assert network.weights()["layer3.0.conv1.weight"] == (256, 128, 3, 3)


def test_null_removes_a_key_of_the_base(tmp_path: Path) -> None:
    child = write_specs(tmp_path, child="{name: child, extends: resnet18, stages: {layer4: null}, stem: {maxpool: ~}}")
    assert load(child).weights()["fc.weight"] == (1000, 256)
    assert "maxpool" not in paths(load(child))


@pytest.mark.parametrize(
    ("head", "order"),
    [
        ("{drop: {op: dropout, rate: 0.5}, fc: {out: 3}}", ["avgpool", "drop", "fc"]),
        ("{avgpool: {op: global_max_pool}, drop: {op: dropout, rate: 0.5}}", ["avgpool", "drop", "fc"]),
        ("{drop: {op: dropout, rate: 0.5}}", ["avgpool", "fc", "drop"]),
    ],
)
def test_a_new_layer_is_placed_where_it_is_written(tmp_path: Path, head: str, order: list[str]) -> None:
    child = write_specs(tmp_path, child=f"{{name: child, extends: resnet18, head: {head}}}")
    assert paths(load(child))[-3:] == order


def test_extends_finds_a_file_in_the_same_folder_and_follows_its_extends(tmp_path: Path) -> None:
    a = write_specs(tmp_path, a="{name: a, extends: b}", b="{name: b, extends: resnet18, takes: {classes: 7}}")
    assert load(a).output_shape == (7,)


def test_a_spec_may_have_the_name_of_the_bundled_spec_that_it_extends(tmp_path: Path) -> None:
    spec = write_specs(tmp_path, resnet18="{name: resnet18, extends: resnet18, takes: {classes: 7}}")
    assert load(spec).output_shape == (7,)


# -- finding a spec -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet18", "resnet18.yaml"])
def test_a_bundled_name_is_found_from_anywhere(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(name).parameters == 11_689_512


def test_a_file_in_the_working_directory_takes_precedence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_specs(tmp_path, resnet18="{name: mine, input: [1, 4, 4], stem: {a: act}}")
    monkeypatch.chdir(tmp_path)
    assert (load("resnet18.yaml").name, load("resnet18").name) == ("mine", "resnet18")


def test_load_accepts_a_path(tmp_path: Path) -> None:
    assert load(write_specs(tmp_path, own="{name: own, input: [1, 4, 4], stem: {a: act}}")).name == "own"


def test_an_operation_gets_its_arguments() -> None:
    (leaf,) = small("stem: {a: {op: conv, out: 6, kernel: 3, stride: 2, padding: 1, groups: 2, bias: true}}").leaves()
    assert leaf.op == Conv(out=6, kernel=3, stride=2, padding=1, groups=2, bias=True)


# -- differing blocks of a stage, parallel branches -------------------------------------------------------------


def test_first_and_last_override_arguments_of_the_stage() -> None:
    network = small("stages: {s: {block: bottleneck, depth: 3, out: 8, width: 4, first: {width: 2}, last: {width: 6}}}")
    assert [network.weights()[f"s.{index}.conv1.weight"][0] for index in range(3)] == [2, 4, 6]


def test_first_may_be_another_block() -> None:
    network = small("stages: {s: {block: basic, depth: 2, out: 4, first: {block: preact_basic}}}")
    assert [paths(network)[0], paths(network)[-1]] == ["s.0.norm1", "s.1.relu2"]


def test_the_last_block_may_have_the_stride() -> None:
    network = small("stages: {s: {block: basic, depth: 3, out: 4, last: {stride: 2}}}")
    assert [part.output_shape[1] for part in network.nodes() if isinstance(part, Residual)] == [8, 8, 4]


PRE = """
blocks:
  pre:
    takes: {{out: required}}
    {reads}
    before: {{bn: norm}}
    branch: {{c: {{op: conv, out: out, kernel: 1}}}}
    shortcut: {{p: {{op: conv, out: out, kernel: 1}}}}
stages: {{s: {{block: pre, depth: 2, out: 6}}}}
"""


@pytest.mark.parametrize(
    ("reads", "projected", "identity"),
    [("", "before", "input"), ("reads: before", "before", "before"), ("reads: input", "input", "input")],
)
def test_reads_sets_what_shortcuts_read(reads: str, projected: str, identity: str) -> None:
    first, second = (part for part in small(PRE.format(reads=reads)).nodes() if isinstance(part, Residual))
    assert (first.reads, second.reads) == (projected, identity)


def test_layers_of_parallel_branches_are_named_beside_the_part_that_joins_them() -> None:
    network = small(
        "stem: {a: {both: {combine: concat, branches: [{x.0: {op: conv, out: 3, kernel: 1}}, {x.1: norm}, none]}}}"
    )
    assert [part.path for part in network.nodes()] == ["a.x.0", "a.x.1", "a.both", "a"]
    assert network.output_shape == (3 + 4 + 4, 8, 8)


def test_split_divides_the_channels() -> None:
    network = small(
        "stem: {both: {split: true, combine: concat, branches: [{c: {op: conv, out: 5, kernel: 1}}, none]}}"
    )
    assert (network.weights()["c.weight"], network.output_shape) == ((5, 2, 1, 1), (7, 8, 8))


@pytest.mark.parametrize("combine", ["add", "mean"])
def test_branches_can_be_added_or_averaged(combine: str) -> None:
    network = small(f"stem: {{both: {{combine: {combine}, branches: [{{a: act}}, none]}}}}")
    (both,) = (part for part in network.nodes() if isinstance(part, Parallel))
    assert (both.combine, both.output_shape) == (combine, (4, 8, 8))


@pytest.mark.parametrize(
    ("branches", "message"),
    [
        ("{split: true, combine: concat, branches: [none, none, none]}", "4 channels can't be split evenly between 3"),
        ("{combine: add, branches: [none, {c: {op: conv, out: 5, kernel: 1}}]}", "can't be added, in f"),
        ("{combine: concat, branches: [none, {c: {op: max_pool, kernel: 2}}]}", "can't be concatenated, in f"),
        ("{combine: average, branches: [none]}", "expected concat, add, mean, multiply or subtract, got 'average'"),
        ("{combine: add, branches: {a: act}}", "expected a list of branches"),
        ("{branches: [none]}", "a layer with branches needs combine"),
        ("{combine: add, branches: [none], spilt: true}", "did you mean 'split'"),
        ("{combine: add, branches: [none], split: 2}", "expected true or false, got '2'"),
        (
            "{split: true, cascade: true, combine: concat, branches: [{c: {op: conv, out: 3, kernel: 1}}, {d: act}]}",
            "a cascade can't add the output (3, 8, 8) of a branch to the input (2, 8, 8) of the next one, in f",
        ),
    ],
)
def test_invalid_branches_are_errors(branches: str, message: str) -> None:
    with pytest.raises(SpecError, match=re.escape(message)):
        small(f"stem: {{f: {branches}}}")


def test_layers_can_redefine_projection_and_convolution() -> None:
    layers = "layers: {projection: avg_pool_projection, convolution: {op: standardized_conv, epsilon: 1e-8}}"
    network = small(
        f"{layers}\nstages: {{s: {{block: basic, depth: 1, out: 6}}, t: {{block: preact_basic, depth: 1, out: 6}}}}"
    )
    kinds = {leaf.path: type(leaf.op).__name__ for leaf in network.leaves()}
    assert (kinds["s.0.downsample.0"], kinds["t.0.conv1"]) == ("AvgPool", "StandardizedConv")


@pytest.mark.parametrize(
    ("stem", "kind"),
    [
        ("{conv1: {block: deep_stem, first: 8, second: 8, out: 16}}", "Conv"),
        ("{maxpool: {op: avg_pool, kernel: 2, stride: 2}}", "AvgPool"),
        ("{maxpool: {op: conv, out: 64, kernel: 3}}", "Conv"),
    ],
)
def test_another_operation_replaces_the_whole_layer(stem: str, kind: str, tmp_path: Path) -> None:
    child = write_specs(tmp_path, child=f"{{name: child, extends: resnet18, stem: {stem}}}")
    name = stem.partition(":")[0].strip("{")
    kinds = [type(leaf.op).__name__ for leaf in load(child).leaves() if leaf.path.startswith(name)]
    assert kinds[0] == kind


def test_a_new_layer_takes_the_place_of_a_removed_one(tmp_path: Path) -> None:
    child = write_specs(tmp_path, child="{name: child, extends: resnet18, stem: {bn1: null, a: norm, b: act}}")
    assert paths(load(child))[:5] == ["conv1", "a", "b", "relu", "maxpool"]


# -- names of bundled networks ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("resnet18", "resnet18.yaml"),
        ("timm/resnet18", "timm/resnet18.yaml"),
        ("resnetrs50", "timm/resnetrs50.yaml"),
        ("kuangliu/ResNet18", "cifar/kuangliu/ResNet18.yaml"),
        ("ResNet50_vd.yaml", "paddleclas/ResNet50_vd.yaml"),
    ],
)
def test_a_name_finds_its_network(name: str, file: str) -> None:
    assert Path(find_source(name).name).as_posix().endswith(f"specs/{file}")


def test_an_ambiguous_name_is_an_error_that_lists_the_candidates() -> None:
    with pytest.raises(
        FileNotFoundError, match=r"several match: cifar/kuangliu/ResNet18, flax/ResNet18, paddleclas/ResNet18$"
    ):
        load("ResNet18")
