"""Test which problems are reported together, and where they are shown. Messages are tested in ``tests/problems``."""

from __future__ import annotations

from pathlib import Path

import pytest

from resnet_spec import SpecError, load, loads
from resnet_spec.diagnostics.problems import Problem
from resnet_spec.library import bundled

HEAD = "name: a\ninput: [3, 8, 8]\n"


def problems_of(text: str, **settings: str) -> list[Problem]:
    with pytest.raises(SpecError) as error:
        loads(text, "my.yaml", **settings)
    return list(error.value.problems)


def places(text: str) -> list[tuple[str, int, int]]:
    return [(problem.code, problem.span.line, problem.span.column) for problem in problems_of(text)]


def test_problems_of_an_invalid_bundled_block_are_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text("branch: {double: relu}\n", encoding="utf-8")
    monkeypatch.setattr(bundled, "block_files", lambda: {"wrong": file})
    (problem,) = problems_of(f"{HEAD}stem: {{a: {{block: wrong}}}}\n")
    assert "'double' is an attribute of torch.nn.Module" in problem.message


# -- all at once --------------------------------------------------------------------------------------------------


def test_problems_of_form_names_and_shapes_are_reported_together() -> None:
    layers = ["e: {op: conv, out: 8, kernel: 3, groups: 3}", "d: nrom", "c: {op: conv, out: no, kernel: 3, pading: 1}"]
    text = f"{HEAD}stem:\n" + "".join(f"  {layer}\n" for layer in layers)
    assert places(text) == [("RS401", 4, 44), ("RS204", 5, 6), ("RS301", 6, 22), ("RS205", 6, 37)]


def test_shape_problems_are_reported_for_each_independent_part() -> None:
    stage = "{block: bottleneck, depth: 2, out: 16, width: 6, groups: 4}"
    text = f"{HEAD}stem: {{c: {{op: conv, out: 8, kernel: many}}}}\nstages:\n  s: {stage}\n  t: {stage}\n"
    assert [(code, line) for code, line, _ in places(text)] == [("RS301", 3), ("RS401", 5), ("RS401", 6)]


def test_problems_are_grouped_by_file(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("name: base\ninput: [3, 8, 8]\nstem: {a: reul, a: act}\n")
    (tmp_path / "my.yaml").write_text("name: my\nextends: base\n\n\nhead: {b: nrom, b: act}\n")
    with pytest.raises(SpecError) as error:
        load(tmp_path / "my.yaml")
    seen = [(Path(problem.span.source.name).name, problem.code) for problem in error.value.problems]
    assert seen == [("my.yaml", "RS204"), ("my.yaml", "RS102"), ("base.yaml", "RS204"), ("base.yaml", "RS102")]


def test_problems_of_settings_and_of_the_spec_are_reported_together() -> None:
    problems = problems_of(
        f"{HEAD}takes: {{width: 3}}\nstem: {{a: {{op: conv, out: width, kernel: 1}}, b: reul}}\n", widht="4"
    )
    assert [(str(problem.span), problem.code) for problem in problems] == [
        ("widht=4:1:1", "RS205"),
        ("my.yaml:4:49", "RS204"),
    ]


def test_at_most_a_hundred_problems_are_reported() -> None:
    problems = problems_of(HEAD + "stem:\n" + "".join(f"  a{at}: reul\n" for at in range(500)))
    assert len(problems) == 101
    assert problems[-1].message == "more than 100 problems; the others are not shown"


def test_repeated_blocks_report_a_problem_of_a_line_once() -> None:
    problems = problems_of(f"{HEAD}stages: {{s: {{block: bottleneck, depth: 9, out: 16, width: 6, groups: 4}}}}\n")
    assert [problem.code for problem in problems] == ["RS401"]


# -- places -------------------------------------------------------------------------------------------------------


def test_a_problem_in_a_bundled_block_is_shown_at_its_use_with_a_note_on_the_block() -> None:
    (problem,) = problems_of(
        f"{HEAD}stages: {{s: {{block: basic, depth: 1, out: 8, attention: {{block: squeeze_excite, reduced: 0}}}}}}\n"
    )
    assert (problem.span.source.name, problem.span.column) == ("my.yaml", 90)
    assert [Path(note.span.source.name).name for note in problem.notes] == ["squeeze_excite.yaml"]


def test_a_problem_in_an_own_block_is_shown_at_its_line_with_a_note_on_its_use() -> None:
    blocks = "blocks: {b: {branch: {c: {op: conv, out: 3, kernel: 3, groups: 2, padding: 1}}}}"
    (problem,) = problems_of(f"{HEAD}{blocks}\nstages: {{s: {{block: b, depth: 2}}}}\n")
    assert (problem.span.line, [note.span.line for note in problem.notes]) == (3, [4])


def test_of_two_values_that_do_not_match_the_one_of_the_author_is_shown(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(
        "name: base\ninput: [4, 8, 8]\nstem: {c: {op: conv, out: 8, kernel: 1, groups: 4}}\n"
    )
    (tmp_path / "my.yaml").write_text("name: my\nextends: base\nstem: {c: {out: 6}}\n")
    with pytest.raises(SpecError) as error:
        load(tmp_path / "my.yaml")
    (problem,) = error.value.problems
    assert (Path(problem.span.source.name).name, problem.span.line, problem.span.column) == ("my.yaml", 3, 17)
    assert problem.message == "groups is 4, which does not divide the 6 output channels of c"


@pytest.mark.parametrize(
    ("line", "caret"),
    [
        ("stem: {a: reul}", "          ^^^^"),
        ("stem: {# 中\n  a: reul}", "     ^^^^"),
        ("stem: {a: {op: dropout, rate: 中中}}", "                              ^^^^"),
        ("stem: {a: {op: dropout, rate: e\u0301e\u0301}}", "                              ^^"),
        ('stem: {"中": act, a: reul}', "       ^^^^"),
    ],
)
def test_carets_are_beneath_the_wrong_value(line: str, caret: str) -> None:
    shown = str(problems_of(f"{HEAD}{line}\n")[0]).splitlines()
    assert next(text for text in shown if "^" in text).removeprefix("  | ") == caret


def test_a_tab_is_shown_as_four_spaces() -> None:
    lines = str(problems_of(f"{HEAD}stem: {{a: 'x\ty', b: act}}\n")[0]).splitlines()
    assert lines[3:5] == ["3 | stem: {a: 'x    y', b: act}", "  |           ^^^^^^^^"]


def test_the_first_line_of_a_value_over_several_lines_is_marked() -> None:
    text = (
        f"{HEAD}stem:\n  c: {{op: conv,  # a convolution\n      out: 8}}\n  d:\n    op: conv  # another\n    out: 8\n"
    )
    assert [(problem.span.line, problem.span.column, problem.span.end) for problem in problems_of(text)] == [
        (4, 6, 15),
        (7, 5, 13),
    ]


def test_a_quoted_text_over_several_lines_is_marked_to_the_end_of_the_first() -> None:
    (problem,) = problems_of(f'{HEAD}stem:\n  c: "one\n    two"\n')
    assert (problem.span.line, problem.span.column, problem.span.end) == (4, 6, 10)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_all_line_ends_are_supported(end: str) -> None:
    assert places(f"{HEAD}stem:\n  a: act\n  b: reul\n".replace("\n", end)) == [("RS204", 5, 6)]


def test_a_byte_order_mark_does_not_shift_columns() -> None:
    assert places(f"\ufeff{HEAD}stem: {{a: reul}}\n") == [("RS204", 3, 11)]


# -- valid specs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        f"{HEAD}stem: {{a: &x {{op: conv, out: 3, kernel: 1}}, b: *x}}",
        f"{HEAD}stem: {{a: act}} # a tab:\there, a mark: !, a question?",
        f"--- # the one document\n{HEAD}stem: {{a: act}}\n...\n",
        f"{HEAD}takes: {{width: 3, none_of: none}}\nstem: {{a: {{op: conv, out: width, kernel: 1}}, b: none_of}}",
        f"{HEAD}layers: {{act: silu}}\nstem: {{a: act}}",
        '{"name": "a", "input": [3, 8, 8], "stem": {"a": {"op": "conv", "out": 8, "kernel": 3}, "b": "none"}}',
    ],
)
def test_valid_texts_are_loaded(text: str) -> None:
    assert loads(text).parts


@pytest.mark.parametrize("norm", ["batch_norm", "{op: batch_norm}", "{op: group_norm, groups: 1}", "b", "{block: b}"])
@pytest.mark.parametrize("key", ["op", "block"])
def test_a_name_that_is_defined_may_stand_for_an_operation_or_a_block(norm: str, key: str) -> None:
    blocks = "blocks: {b: {branch: {r: act}}}"
    network = loads(f"{HEAD}layers: {{norm: {norm}}}\n{blocks}\nstem: {{a: {{{key}: norm}}}}\n")
    assert network.output_shape == (3, 8, 8)


@pytest.mark.parametrize("layer", ["{block: batch_norm}", "{op: basic, out: 8}"])
def test_an_operation_is_no_block(layer: str) -> None:
    assert places(f"{HEAD}stem: {{a: {layer}}}\n")[0][0] == "RS204"


def test_an_argument_of_a_base_may_be_unused(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("name: my\nextends: resnet18\nhead: null\n")
    assert load(tmp_path / "my.yaml").output_shape == (512, 7, 7)


def test_a_removed_layer_is_replaced_by_the_layer_written_after_it(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("name: my\nextends: resnet18\nstem: {bn1: null, other: norm, relu: null}\n")
    assert [part.path for part in load(tmp_path / "my.yaml").parts][:3] == ["conv1", "other", "maxpool"]
