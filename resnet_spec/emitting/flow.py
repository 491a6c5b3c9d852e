"""Write how a module runs its parts: the statements of its ``forward``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from resnet_spec.emitting.dialect import Syntax
from resnet_spec.emitting.formatting import Bracket, Document, Row, flat
from resnet_spec.network.execution import plan_parallel, plan_residual
from resnet_spec.network.parts import Parallel, Part, Residual
from resnet_spec.network.parts import Row as Parts

MAX_LENGTH = 100
"""Longer calls inside one another are divided into statements."""


@dataclass(frozen=True, slots=True)
class Reference:
    """How a module refers to one of its parts.

    Attributes:
        text: The attribute, such as ``self.conv1``.
        apply: The expression that applies it: ``{x}`` stands for the input and ``{f}`` for the attribute.
        starts_statement: Whether it stands at the beginning of a statement: a convolution, or a module of its own.
    """

    text: str
    apply: str
    starts_statement: bool


@dataclass(frozen=True, slots=True)
class Expression:
    """The value of a part: a name, calls inside one another, or a sum or product, which needs parentheses."""

    text: str
    is_name: bool = False
    is_sum: bool = False


@dataclass(frozen=True, slots=True)
class Choices:
    """What a block decides by the arguments of its class.

    Attributes:
        has_shortcut: The attribute that says whether there is a shortcut at all; "" if that is always so.
        projects: The attribute that says whether the shortcut has layers, where it then reads another value; "" if
            that makes no difference.
    """

    has_shortcut: str = ""
    projects: str = ""


class Flow:
    """Collects the statements that run parts one after another."""

    def __init__(
        self, syntax: Syntax, references: Mapping[str, Reference], sizes: Mapping[str, str], comments: bool = False
    ) -> None:
        self.syntax = syntax
        self.references = references
        self.sizes = sizes
        self.comments = comments
        self.lines: list[Document] = []
        self._count = 0

    def run(self, row: Parts, x: Expression, target: str) -> Expression:
        """Write a row of parts, which may assign to ``target``; return its output."""
        for part in row:
            x = self._join_branches(part, x, target) if isinstance(part, Parallel) else self._apply(part, x, target)
            if self.comments:
                x = self.name(x, target, part)
        return x

    def block(self, part: Residual, choices: Choices) -> Expression:
        """Write a residual block whose input is called x; return its output."""
        plan = plan_residual(part)
        read = self.run(part.before, Expression("x", True), "z")
        if part.before:
            read = self.name(read, "z")
        branch = self.run(part.branch, read, "y")
        source = read if part.reads == "before" else Expression("x", True)
        if choices.projects:
            branch = self.name(branch, "y")
            shortcut = self.name(self.run(part.shortcut, source, "shortcut"), "shortcut")
            last = self.lines.pop()
            self.lines.append(f"{flat(last)} if {choices.projects} else x")
        else:
            shortcut = self.run(part.shortcut, source, "shortcut")
        if choices.has_shortcut:
            branch = self.name(branch, "y")
            right = self._operand(shortcut, "shortcut")
            self.lines.append(f"y = {branch.text} + {right} if {choices.has_shortcut} else {branch.text}")
            return self.run(part.after, Expression("y", True), "y")
        match part.combine:
            case "add":
                left = self._operand(branch, "y")
                combined = Expression(f"{left} + {self._operand(shortcut, 'shortcut')}", False, True)
            case "multiply":
                gate = self._operand(branch, "y")
                gate = self.syntax.expand.format(x=gate) if plan.missing_axes else gate
                combined = Expression(f"{self._operand(shortcut, 'shortcut')} * {gate}", False, True)
            case _:
                combined = self._concat([shortcut, branch], "y")
        return self.run(part.after, combined, "y")

    def name(self, x: Expression, target: str, part: Part | None = None) -> Expression:
        """Assign an expression to a name, unless it is one."""
        if not x.is_name:
            self.lines.append(f"{target} = {x.text}")
            x = Expression(target, True)
        return x

    def _operand(self, x: Expression, target: str) -> str:
        return self.name(x, target).text if x.is_sum or len(x.text) > MAX_LENGTH // 2 else x.text

    def _apply(self, part: Part, x: Expression, target: str) -> Expression:
        reference = self.references[part.path]
        text = reference.apply.format(x=x.text, f=reference.text)
        is_call = "({x}" in reference.apply and not reference.apply.startswith("{x}")
        must_name = (x.is_sum and not is_call) or (reference.starts_statement and not x.is_name and not x.is_sum)
        if not x.is_name and (must_name or len(text) > MAX_LENGTH or reference.apply.count("{x}") > 1):
            x = self.name(x, target)
            text = reference.apply.format(x=x.text, f=reference.text)
        if text == x.text:
            return x
        return Expression(text, False, reference.apply.startswith("{x} "))

    def _fresh(self) -> str:
        self._count += 1
        return f"y{self._count}"

    def _join_branches(self, part: Parallel, x: Expression, target: str) -> Expression:
        plan = plan_parallel(part)
        source = self.name(x, self._fresh() if x.is_sum or not x.is_name else x.text)
        inputs = self._split(part, source) if plan.pieces else [source] * len(part.branches)
        outputs: list[Expression] = []
        for index, branch in enumerate(part.branches):
            read = outputs[-1] if plan.collect and outputs else inputs[index]
            if plan.cascade and branch and outputs:
                read = Expression(f"{read.text} + {outputs[-1].text}", False, True)
            own = self._fresh()
            y = self.run(branch, read, own)
            is_reused = plan.cascade or plan.collect or plan.combine != "concat" or bool(plan.resize)
            outputs.append(self.name(y, own) if (is_reused or len(y.text) > MAX_LENGTH // 2) else y)
        if plan.resize:
            for index, y in enumerate(outputs[1:], 1):
                own = self._fresh()
                self.lines.append(f"{own} = {self.syntax.resize.format(x=y.text, y=outputs[0].text)}")
                outputs[index] = Expression(own, True)
        names = [y.text for y in outputs]
        match plan.combine:
            case "concat":
                return self._concat(outputs, target)
            case "multiply":
                axes = zip(names, plan.missing_axes, strict=True)
                factors = [self.syntax.expand.format(x=name) if missing else name for name, missing in axes]
                return Expression(" * ".join(factors), False, True)
            case "add":
                return Expression(" + ".join(names), False, True)
            case "mean":
                return Expression(f"({' + '.join(names)}) / {len(names)}", False, True)
            case _:
                return Expression(" - ".join(names), False, True)

    def _split(self, part: Parallel, x: Expression) -> list[Expression]:
        names = [self._fresh() for _ in part.branches]
        sizes = self.sizes.get(part.path)
        if sizes is None:
            text = self.syntax.chunk.format(x=x.text, count=len(names))
        else:
            text = self.syntax.split.format(x=x.text, sizes=sizes)
        self.lines.append(f"{', '.join(names)} = {text}" if names[1:] else f"({names[0]},) = {text}")
        return [Expression(name, True) for name in names]

    def _concat(self, outputs: Sequence[Expression], target: str) -> Expression:
        if len(outputs) == 1:
            return outputs[0]
        function, _, rest = self.syntax.concat.partition("(")
        items = Bracket("[", tuple(y.text for y in outputs), "]", is_literal=True)
        call = Row((function, Bracket("(", (items, rest.removesuffix(")").removeprefix("{items}, ")), ")")))
        if len(flat(call)) <= MAX_LENGTH:
            return Expression(flat(call))
        self.lines.append(Row((f"{target} = ", call)))
        return Expression(target, True)


_NUMBERED = re.compile(r"(?<![.\w\"])y\d+\b")


def renumber_names(lines: Sequence[Document]) -> list[Document]:
    """Return statements whose names y1, y2, ... have the numbers in which they come.

    >>> renumber_names(["y3 = f(x)", "y1 = y3 + x"])
    ['y1 = f(x)', 'y2 = y1 + x']
    """
    found = dict.fromkeys(name for line in lines for name in _NUMBERED.findall(flat(line)))
    numbers = {name: f"y{number}" for number, name in enumerate(found, 1)}

    def rename(document: Document) -> Document:
        match document:
            case str():
                return _NUMBERED.sub(lambda name: numbers[name[0]], document)
            case Row():
                return replace(document, pieces=tuple(map(rename, document.pieces)))
            case Bracket():
                return replace(document, items=tuple(map(rename, document.items)))

    return [rename(line) for line in lines]
