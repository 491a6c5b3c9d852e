"""Write a network as a module: its header, the classes that it needs, the network itself and a function to build it."""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from textwrap import wrap

from resnet_spec.emitting.dialect import Dialect, Syntax
from resnet_spec.emitting.expressions import Atom, Call, Constant, Required, write_atom
from resnet_spec.emitting.flow import Choices, Expression, Flow, Reference, renumber_names
from resnet_spec.emitting.formatting import WIDTH, Bracket, Document, Row, Statement, lay_out
from resnet_spec.emitting.helpers import is_assignment, split_helpers, used_helpers
from resnet_spec.emitting.parameters import Parameter
from resnet_spec.emitting.sequences import write_expression
from resnet_spec.emitting.templates import Member, StageTemplate, Template, Templates
from resnet_spec.network.network import Network
from resnet_spec.network.parts import Chain, Part, Residual
from resnet_spec.ops import Shape, shortest_decimal


@dataclass(frozen=True, slots=True)
class Options:
    """How a module is written.

    Attributes:
        native: Use the framework's own layers where they differ from the specification a little, and say how.
        comments: Say the shapes of the maps after each stage.
        with_main: Add a part that prints a summary and runs the network on one image.
    """

    native: bool = False
    comments: bool = False
    with_main: bool = False


def write_module(networks: Sequence[Network], dialect: Dialect, options: Options) -> str:
    """Return the source of a module that builds a network.

    ``networks`` are the network, and the same with one of the arguments of its specification changed, for each of them
    that is an argument of the module too.
    """
    kept = networks[0].outputs or [part.path for part in networks[0].parts if options.comments]
    templates = Templates(networks, dialect, options.native, kept)
    if not templates.has_arguments():
        templates = Templates(networks[:1], dialect, options.native, kept)
    return _Writer(templates, dialect, options).module()


class _Writer:
    def __init__(self, templates: Templates, dialect: Dialect, options: Options) -> None:
        self.templates = templates
        self.dialect = dialect
        self.syntax: Syntax = dialect.syntax
        self.options = options
        self.network = templates.networks[0]
        self.helpers = split_helpers(dialect.helpers())
        self.constants: dict[float, Constant] = {}

    def module(self) -> str:
        """Return the whole source."""
        classes = [self._class(template) for template in self._needed()]
        body = "\n\n\n".join(["\n".join(lines) for lines in [*classes, self._build()]])
        main = "\n".join(self._main()) if self.options.with_main else ""
        helpers = used_helpers(self.helpers, body)
        code = "\n\n\n".join([*helpers, body, *([main] if main else [])])
        head = "\n".join(self._head())
        constants = "\n".join(self._constants())
        is_joined = constants and helpers and is_assignment(helpers[0])
        gap = "\n" if is_joined else "\n\n\n"
        start = f"{constants}{gap}" if constants else ""
        first = "\n\n" if constants or (helpers and is_assignment(helpers[0])) else "\n\n\n"
        return f"{head}\n\n{self._imports(code)}{first}{start}{code}\n"

    # -- head ---------------------------------------------------------------------------------------------------

    def _head(self) -> Iterator[str]:
        network, syntax = self.network, self.syntax
        yield "# SPDX-License-Identifier: Apache-2.0"
        shapes = " -> ".join(_shape_text(map(str, shape), syntax) for shape in (network.input, network.output_shape))
        yield f'"""{network.name} in {syntax.title}: {shapes}, {network.parameters:,} parameters.'
        yield ""
        source = f"{network.source}. " if network.source else ""
        text = f"{source}Written by resnet-spec; weights have the names of the specification."
        yield from wrap(text.replace("\\", "\\\\").replace('"""', "'''"), WIDTH)
        if self.templates.notes:
            yield ""
            yield f"With {syntax.title}'s own layers, which differ from the specification:"
            for note in self.templates.notes:
                yield from wrap(note, WIDTH - 2, initial_indent="- ", subsequent_indent="  ")
        yield '"""'

    def _imports(self, code: str) -> str:
        groups: list[list[str]] = [["from __future__ import annotations"], []]
        for pattern, statement in self.syntax.imports:
            if not statement:
                groups.append([])
            elif re.search(pattern, code):
                groups[-1].append(statement)
        return "\n\n".join("\n".join(group) for group in groups if group)

    def _constants(self) -> Iterator[str]:
        for constant in self.constants.values():
            short = f"{shortest_decimal(constant.value):g}".replace("e-0", "e-")
            yield f"{constant.name} = {constant.value!r}  # {short} as float32 has it, so that float64 agrees too"

    def _named(self, constant: Constant) -> Constant:
        """Return a constant under the name that it has in this module."""
        if constant.value not in self.constants:
            number, name = 2, constant.name
            while any(known.name == name for known in self.constants.values()):
                name, number = f"{constant.name}_{number}", number + 1
            self.constants[constant.value] = Constant(name, constant.value)
        return self.constants[constant.value]

    # -- classes ------------------------------------------------------------------------------------------------

    def _needed(self) -> list[Template | StageTemplate]:
        """Return the classes that the network needs in the order in which it uses them, each after those in it."""
        known = {template.name: template for template in self.templates.found}
        ordered: dict[str, Template | StageTemplate] = {}

        def add(template: Template | StageTemplate) -> None:
            calls = [template.first, template.rest] if isinstance(template, StageTemplate) else _calls(template)
            for name in (name for call in calls for name in _functions(call)):
                if name in known and name not in ordered:
                    add(known[name])
            ordered[template.name] = template

        add(self.templates.root())
        return list(ordered.values())

    def _class(self, template: Template | StageTemplate) -> list[str]:
        if isinstance(template, StageTemplate):
            return self._stage(template)
        is_root = template is self.templates.root()
        members = template.bound_members()
        statements = self._members(template, members)
        if is_root:
            leaves = list(self.templates.leaves.values())
            statements += self.dialect.initialization(leaves)
        base = self.syntax.list_base if self._is_list(template) else self.syntax.module
        lines = [f"class {template.name}({base}):", *self._docstring(template), ""]
        parameters = template.binding.parameters
        has_call = self.syntax.superclass_call and base == self.syntax.module
        first: list[Statement] = [(0, self.syntax.superclass_call)] if has_call else []
        lines += self._function("__init__", parameters, "None", [*first, *statements] or [(0, "pass")])
        return [*lines, "", *self._forward(template, members)]

    def _stage(self, template: StageTemplate) -> list[str]:
        shapes = self._shapes_of(template.starts, template)
        are_equal = template.first == template.rest
        more = f"The first of its {template.block} blocks may change the shape."
        docstring = _docstring_lines(f"Stage: {shapes}", 1, "" if are_equal else more)
        loop = f"for _ in range({'depth' if are_equal else '1, depth'})"
        rest = Row(("*", Bracket("(", (self._expression(template.rest), loop), ")", "")))
        items = (rest,) if are_equal else (self._expression(template.first), rest)
        call = Row(("super().__init__", Bracket("(", items, ")")))
        lines = [f"class {template.name}({self.syntax.sequential}):", *docstring, ""]
        return lines + self._function("__init__", template.binding.parameters, "None", [(0, call)])

    def _function(
        self, name: str, parameters: Sequence[Parameter], result: str, body: Sequence[Statement]
    ) -> list[str]:
        texts = ["self", *map(self._parameter, parameters)]
        if self.syntax.extra_parameter:
            texts += ["*", self.syntax.extra_parameter]
        head = Row((f"def {name}", Bracket("(", tuple(texts), ")"), f" -> {result}:"))
        return [*lay_out(head, 1), *(line for level, document in body for line in lay_out(document, level + 2))]

    def _parameter(self, parameter: Parameter) -> str:
        default = parameter.default
        text = "" if isinstance(default, Required) else f" = {write_atom(default)}"
        return f"{parameter.name}: {parameter.annotation}{text}"

    def _members(self, template: Template, members: Sequence[Member]) -> list[Statement]:
        """Return the statements of a constructor that set what a module holds."""
        statements: list[Statement] = []
        held = [member for member in members if member.call is not None]
        if self._is_list(template):
            items = self._values([(member.names, member) for member in held if member.apply])
            statements.append((0, Row(("super().__init__", Bracket("(", (_bracket_list(items),), ")")))))
            held = [member for member in held if not member.apply]
        attributes = self._choice_attributes(template)
        statements += [(0, f"self.{name} = {self._choice(template, kind)}") for name, kind in attributes]
        first_names = [member.names[0] for member in held]
        condition = self._choice(template, "projects")
        done: set[str] = set()
        for optional, group in groupby(held, lambda member: member.is_optional and bool(condition)):
            inner: list[Document] = []
            for member in group:
                name = member.names[0]
                if name in done:
                    continue
                done.add(name)
                alike = [one for one, first in zip(held, first_names, strict=True) if first == name]
                value = self._container([(one.names[1:], one) for one in alike])
                inner.append(_assignment(name, value))
            if optional:
                statements += self._optional([member for member in held if member.is_optional], inner, condition)
            else:
                statements += [(0, line) for line in inner]
        return statements

    def _optional(self, members: Sequence[Member], made: Sequence[Document], condition: str) -> Iterator[Statement]:
        """Yield the statements that set layers which some blocks of a class lack."""
        functions: list[Document] = []
        for member in members:
            name = member.names[0]
            annotation = f": {self.syntax.layer_type}" if is_attribute(name) else ""
            if member.call is not None and self._is_function(member.call):
                if annotation:
                    yield 0, f"self.{name}{annotation}"
                functions.append(_assignment(name, self.syntax.identity_function))
            else:
                yield 0, _assignment(name, self.syntax.identity, annotation)
        yield 0, f"if {condition}:"
        yield from ((1, line) for line in made)
        if functions:
            yield 0, "else:"
            yield from ((1, line) for line in functions)

    def _is_function(self, call: Call) -> bool:
        """Return whether a layer is a function with its arguments, which Flax keeps apart from modules."""
        return self.helpers.get(call.function, "").startswith("@dataclass")

    def _container(self, members: Sequence[tuple[tuple[str, ...], Member]]) -> Document:
        """Return the expression of a member, or of the container of several."""
        if members[0][0] == ():
            call = members[0][1].call
            assert call is not None
            return self._expression(call)
        values = self._values(members)
        if is_list(values):
            return Row((self.syntax.module_list, Bracket("(", (_bracket_list(values),), ")")))
        items = tuple(Row((f'"{name}": ', value)) for name, value in values.items())
        are_weights = {names[1:] == () and member.apply.startswith("{x} ") for names, member in members}
        if len(are_weights) > 1:
            path = members[0][1].part.path
            raise ValueError(f"{path} is a weight or a layer beside the other kind; name it without the dot before it")
        kind = self.syntax.parameter_dict if True in are_weights else self.syntax.module_dict
        return Row((kind, Bracket("(", (Bracket("{", items, "}", is_literal=True),), ")")))

    def _values(self, members: Sequence[tuple[tuple[str, ...], Member]]) -> dict[str, Document]:
        """Return the expressions of members by their first names; those that share it are in a container."""
        groups: dict[str, list[tuple[tuple[str, ...], Member]]] = {}
        for names, member in members:
            groups.setdefault(names[0], []).append((names[1:], member))
        return {name: self._container(group) for name, group in groups.items()}

    def _is_list(self, template: Template) -> bool:
        """Return whether the members of a class are numbered from zero: then it is a list of them."""
        members = template.members[template.shown]
        held = [member for member in members if member.call is not None and member.apply]
        are_layers = all("{f}(" in member.apply and not member.is_optional for member in held)
        is_own = template is not self.templates.root() and not self._choice_attributes(template)
        return is_own and bool(held) and are_layers and is_list(dict.fromkeys(member.names[0] for member in held))

    def _expression(self, call: Call) -> Document:
        return write_expression(call, self._named)

    # -- choices ------------------------------------------------------------------------------------------------

    def _choice(self, template: Template, kind: str) -> str:
        """Return the condition of a choice that a block makes; "" if it makes none."""
        flags = template.flags(kind)
        if len(set(flags)) < 2 or not isinstance(template.parts[template.shown], Residual):
            return ""
        return template.binding.condition(flags) or kind

    def _choice_attributes(self, template: Template) -> list[tuple[str, str]]:
        found = []
        if self._choice(template, "adds"):
            found.append(("has_shortcut", "adds"))
        shown = template.parts[template.shown]
        reads = {part.reads for part in template.parts if isinstance(part, Residual)}
        if isinstance(shown, Residual) and shown.shortcut and shown.before and len(reads) > 1:
            found.append(("projects", "projects"))
        return found

    # -- forward ------------------------------------------------------------------------------------------------

    def _forward(self, template: Template, members: Sequence[Member]) -> list[str]:
        part = template.parts[template.shown]
        lists = _lists([member.names for member in members])
        own = {()} if self._is_list(template) else set()
        attributes = {m.part.path: _attribute(m.names, lists | own if m.apply else lists) for m in members}
        sizes = {m.part.path: attributes[m.part.path] for m in members if m.apply == ""}
        references = {
            m.part.path: Reference(attributes[m.part.path], m.apply, m.starts_statement) for m in members if m.apply
        }
        is_root = template is self.templates.root()
        flow = Flow(self.syntax, references, sizes)
        result = self.syntax.tensor
        if isinstance(part, Residual):
            names = {kind: f"self.{name}" for name, kind in self._choice_attributes(template)}
            y = flow.block(part, Choices(names.get("adds", ""), names.get("projects", "")))
            text = y.text
        elif is_root and self.network.outputs:
            text = self._outputs(flow, part)
            result = f"tuple[{', '.join([result] * len(self.network.outputs))}]"
        else:
            assert isinstance(part, Chain)
            x = Expression("x", True)
            for inner in part.parts:
                x = flow.run((inner,), x, "x")
                if is_root and self.options.comments and isinstance(inner, Chain | Residual):
                    x = flow.name(x, "x")
                    flow.lines.append(f"# {_shape_text(map(str, inner.output_shape), self.syntax)}")
            text = x.text
        head = f"def {self.syntax.forward}(self, x: {self.syntax.tensor}) -> {result}:"
        body = _with_return(_with_comments(flow.lines), text)
        body = renumber_names(body)
        return [*lay_out(head, 1), *(line for document in body for line in lay_out(document, 2))]

    def _outputs(self, flow: Flow, part: Part) -> str:
        """Write a network that returns feature maps; return the expression of all of them."""
        names: list[str] = []
        x = Expression("x", True)
        for inner in part.rows[0]:
            x = flow.run((inner,), x, "x")
            if inner.path in self.network.outputs:
                x = flow.name(x, f"map{len(names) + 1}")
                names.append(x.text)
        return f"({names[0]},)" if len(names) == 1 else ", ".join(names)

    # -- docstrings ---------------------------------------------------------------------------------------------

    def _docstring(self, template: Template) -> list[str]:
        if template is self.templates.root():
            network = self.network
            shapes = " -> ".join(
                _shape_text(map(str, shape), self.syntax) for shape in (network.input, network.output_shape)
            )
            return _docstring_lines(f"{network.name}: {shapes}", 1)
        shown = template.parts[template.shown]
        kind = "Layers"
        if isinstance(shown, Residual):
            kind = {"add": "Residual block", "multiply": "Gate", "concat": "Dense block"}[shown.combine]
        return _docstring_lines(f"{kind}: {self._shapes_of(template.parts, template)}", 1)

    def _shapes_of(self, parts: Sequence[Part], template: Template | StageTemplate) -> str:
        """Return the shapes of the input and the output, by the arguments of the class where they have these values."""
        binding = template.binding
        texts: list[list[str]] = []
        for shapes in ([part.input_shape for part in parts], [part.output_shape for part in parts]):
            channels = [shape[0] for shape in shapes]
            texts.append([binding.find(channels) or _sum_text(parts, texts, channels) or "channels"])
        first = parts[0]
        has_map = len(first.input_shape) == 3
        if has_map:
            texts[0] += ["height", "width"]
        if len(first.output_shape) == 3:
            for axis, name in ((1, "height"), (2, "width")):
                texts[1].append(_size_text([(p.input_shape, p.output_shape) for p in parts], axis, name, binding.find))
        return " -> ".join(_shape_text(text, self.syntax) for text in texts)

    # -- functions ----------------------------------------------------------------------------------------------

    def _build(self) -> list[str]:
        root = self.templates.root()
        parameters = [self._parameter(parameter) for parameter in root.binding.parameters]
        if self.syntax.build_parameter:
            parameters.append(self.syntax.build_parameter)
        call = f"{root.name}({', '.join(parameter.name for parameter in root.binding.parameters)}"
        extra = self.syntax.build_argument
        call += f", {extra})" if extra and root.binding.parameters else f"{extra})"
        head = Row(("def build", Bracket("(", tuple(parameters), ")"), f" -> {root.name}:"))
        body = [line.format(call=call) for line in self.syntax.evaluate]
        docstring = _docstring_lines("Return the network with initial weights, in evaluation mode", 1)
        return [*lay_out(head, 0), *docstring, *(f"    {line}" for line in body)]

    def _main(self) -> list[str]:
        statements = ["model = build()", *self.dialect.main(self.network.input)]
        return ['if __name__ == "__main__":', *(f"    {statement}" for statement in statements)]


def _calls(template: Template) -> list[Call]:
    return [member.call for member in template.members[template.shown] if member.call is not None]


def _functions(call: Call) -> Iterator[str]:
    yield call.function
    for argument in call.arguments:
        if isinstance(argument.value, Call):
            yield from _functions(argument.value)


def _lists(names: Iterable[tuple[str, ...]]) -> set[tuple[str, ...]]:
    """Return the names that lead to containers whose items are numbered from zero."""
    items: dict[tuple[str, ...], dict[str, None]] = {}
    for own in names:
        for length in range(1, len(own)):
            items.setdefault(own[:length], {})[own[length]] = None
    return {prefix for prefix, keys in items.items() if is_list(keys)}


def is_list(keys: Iterable[str]) -> bool:
    """Return whether keys are the numbers from zero."""
    found = list(keys)
    return found == [str(index) for index in range(len(found))]


def _attribute(names: tuple[str, ...], lists: Container[tuple[str, ...]]) -> str:
    """Return the expression of an attribute of a module, or of an item of a container there."""
    first = names[0]
    text = f"self.{first}" if is_attribute(first) else f'getattr(self, "{first}")'
    text = f"self[{first}]" if () in lists else text
    for length in range(1, len(names)):
        text += f"[{names[length]}]" if names[:length] in lists else f'["{names[length]}"]'
    return text


def is_attribute(name: str) -> bool:
    """Return whether a name can stand behind a dot."""
    return name.isidentifier() and not keyword.iskeyword(name)


def _bracket_list(values: Mapping[str, Document]) -> Bracket:
    return Bracket("[", tuple(values.values()), "]", is_literal=True)


def _assignment(name: str, value: Document, annotation: str = "") -> Document:
    if is_attribute(name):
        return Row((f"self.{name}{annotation} = ", value))
    return Row(("setattr", Bracket("(", ("self", f'"{name}"', value), ")")))


def _with_comments(lines: Iterable[Document]) -> list[Document]:
    """Return statements with those that are comments at the end of the one before them."""
    merged: list[Document] = []
    for line in lines:
        if isinstance(line, str) and line.startswith("# "):
            merged[-1] = Row((merged[-1], f"  {line}"))
        else:
            merged.append(line)
    return merged


def _with_return(lines: list[Document], name: str) -> list[Document]:
    """Return statements and the return of a value: directly, if the last statement gives it its name."""
    last = lines[-1] if lines else ""
    start = f"{name} = "
    if isinstance(last, str) and last.startswith(start):
        return [*lines[:-1], f"return {last.removeprefix(start)}"]
    if isinstance(last, Row) and last.pieces[0] == start:
        return [*lines[:-1], Row(("return ", *last.pieces[1:]))]
    return [*lines, f"return {name}"]


def _docstring_lines(text: str, level: int, more: str = "") -> list[str]:
    """Return the lines of a docstring of one sentence, and of another below it."""
    margin = "    " * level
    line = f'{margin}"""{text}."""'
    if len(line) <= WIDTH and not more:
        return [line]
    first = wrap(f'{margin}"""{text}.', WIDTH, subsequent_indent=margin)
    return [*first, *(["", f"{margin}{more}"] if more else []), f'{margin}"""']


def _shape_text(sizes: Iterable[str], syntax: Syntax) -> str:
    """Return a shape with the axis of the batch, in the order of the framework's axes."""
    channels, *rest = sizes
    axes = [*rest, channels] if syntax.has_channels_last else [channels, *rest]
    return f"({', '.join(['batch', *axes])})"


def _sum_text(parts: Sequence[Part], texts: Sequence[Sequence[str]], channels: Sequence[int]) -> str:
    """Return a number of channels that leave as a sum of those that arrive and a number; "" if it is none."""
    more = {after - part.input_shape[0] for part, after in zip(parts, channels, strict=True)}
    is_known = bool(texts) and texts[0][0] != "channels" and len(more) == 1
    return f"{texts[0][0]} + {more.pop()}" if is_known and min(more) > 0 else ""


def _size_text(pairs: Sequence[tuple[Shape, Shape]], axis: int, name: str, find: Callable[[list[Atom]], str]) -> str:
    """Return the size of an output's axis by that of the input."""
    if any(len(before) < 3 for before, _ in pairs):
        return str(pairs[0][1][axis])
    ratios: list[Atom] = [round(before[axis] / after[axis]) for before, after in pairs]
    ratio = find(ratios)
    if not all(_divides(before[axis], after[axis]) for before, after in pairs):
        return f"{name}'"
    return name if ratio == "1" else f"{name} / {ratio}" if ratio else f"{name}'"


def _divides(before: int, after: int) -> bool:
    """Return whether a size is another one over a whole number, rounded down or up."""
    ratio = round(before / after)
    return ratio > 0 and after in (before // ratio, -(-before // ratio))
