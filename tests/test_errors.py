"""What is said of a spec that can't be: the whole of it, with its place and what would be right."""

from __future__ import annotations

import pytest

from resnet_spec import SpecError, loads

CASES = {
    "an unknown key": (
        "name: a\ninput: [3, 8, 8]\nsteem: {a: act}\nstem: {a: act}\n",
        """\
error[RS202]: unknown key 'steem'
 --> my.yaml:3:1
  |
3 | steem: {a: act}
  | ^^^^^
  = help: did you mean 'stem'?""",
    ),
    "an unknown block": (
        "name: a\ninput: [3, 8, 8]\nstages:\n  s: {block: bottelneck, depth: 1, out: 8}\n",
        """\
error[RS204]: no block named 'bottelneck'
 --> my.yaml:4:14
  |
4 |   s: {block: bottelneck, depth: 1, out: 8}
  |              ^^^^^^^^^^
  = help: did you mean 'bottleneck'?""",
    ),
    "a missing argument": (
        "name: a\ninput: [3, 8, 8]\nstem:\n  c: {op: conv, out: 8}\n",
        """\
error[RS206]: conv needs kernel
 --> my.yaml:4:6
  |
4 |   c: {op: conv, out: 8}
  |      ^^^^^^^^^^^^^^^^^^""",
    ),
    "a misspelt argument": (
        "name: a\ninput: [3, 8, 8]\nstem:\n  c: {op: conv, out: 8, kernel: 3, pading: 1}\n",
        """\
error[RS205]: conv does not take 'pading'
 --> my.yaml:4:36
  |
4 |   c: {op: conv, out: 8, kernel: 3, pading: 1}
  |                                    ^^^^^^
  = help: did you mean 'padding'?""",
    ),
    "groups that do not divide, shown where the user wrote them": (
        """\
name: a
input: [64, 8, 8]
stages:
  layer1: {block: bottleneck, depth: 3, out: 256, width: 64, groups: 48}
""",
        """\
error[RS401]: groups is 48, which does not divide the 64 input channels of layer1.0.conv2
 --> my.yaml:4:70
  |
4 |   layer1: {block: bottleneck, depth: 3, out: 256, width: 64, groups: 48}
  |                                                                      ^^
  = help: it can be 1, 2, 4, 8, 16, 32 or 64""",
    ),
    "a number with an underscore": (
        "name: a\ninput: [3, 8, 8]\nstem:\n  c: {op: conv, out: 1_000, kernel: 3}\n",
        """\
error[RS301]: expected a whole number, got '1_000'
 --> my.yaml:4:22
  |
4 |   c: {op: conv, out: 1_000, kernel: 3}
  |                      ^^^^^
  = help: YAML 1.1 would drop the underscores""",
    ),
}


def said(text: str) -> str:
    with pytest.raises(SpecError) as error:
        loads(text, "my.yaml")
    return "\n".join(line for line in str(error.value).splitlines() if "note:" not in line)


@pytest.mark.parametrize("case", [case for case in CASES if "shown where" not in case])
def test_one_mistake(case: str) -> None:
    text, wanted = CASES[case]
    assert said(text) == wanted


def test_a_bound_value_is_shown_where_the_user_wrote_it() -> None:
    text, wanted = CASES["groups that do not divide, shown where the user wrote them"]
    first, *_, last = wanted.splitlines()
    assert said(text).startswith("\n".join(wanted.splitlines()[:-1]))
    assert (said(text).splitlines()[0], said(text).splitlines()[-1]) == (first, last)


def test_all_mistakes_are_found_at_once() -> None:
    text = (
        "name: a\ninput: [3, 8, 8]\nstem:\n  c: {op: conv, out: no, kernel: 3}\n  d: nrom\nhead:\n  e: {op: linear}\n"
    )
    with pytest.raises(SpecError) as error:
        loads(text)
    assert [(problem.code, problem.at.line) for problem in error.value.problems] == [
        ("RS301", 4),
        ("RS204", 5),
        ("RS206", 7),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [*a]",
        "a: !!python/object/apply:os.system [ls]",
        "a: 1\n---\nb: 2",
        "<<: {a: 1}",
        "a: 1\na: 2",
        "[" * 50_000,
        "{a: " * 40 + "1" + "}" * 40,
        "",
        "\0",
        "name: a\ninput: [3, 8, 8]\nstages: {s: {block: basic, depth: 99999999999, out: 8}}",
        "name: a\ninput: [3, 8, 8]\nstem: {c: {op: conv, out: 99999999999999, kernel: 8}}",
        "name: a\ninput: [3, 8, 8]\nlayers: {p: q, q: p}\nstem: {c: p}",
        "name: a\ninput: [3, 8, 8]\nblocks: {b: {branch: {c: {block: b}}}}\nstem: {c: {block: b}}",
    ],
)
def test_a_hostile_spec_is_refused(text: str) -> None:
    with pytest.raises(SpecError):
        loads(text)
