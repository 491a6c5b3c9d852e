"""Turn a dataflow graph into a network and the text of its spec."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from resnet_spec.diagnostics.problems import SpecError
from resnet_spec.importing.arrange import Arranger
from resnet_spec.importing.curves import recognize_curves
from resnet_spec.importing.dataflow import dataflow_digests, dataflow_fingerprint
from resnet_spec.importing.extend import differences
from resnet_spec.importing.graph import Graph
from resnet_spec.importing.initialization import with_initialization
from resnet_spec.importing.problems import ImportRefused
from resnet_spec.importing.reconcile import drop_empty_pads, reconcile, spread_same_padding
from resnet_spec.importing.recover.document import recover_document
from resnet_spec.importing.recover.layout import lay_out
from resnet_spec.importing.reduce import Row, find_repeated, reduce_graph, steps
from resnet_spec.library.load import loads
from resnet_spec.network.network import Network
from resnet_spec.network.parts import Leaf, Part
from resnet_spec.network.to_yaml import to_yaml
from resnet_spec.network.traversal import map_parts, walk
from resnet_spec.ops import DropPath
from resnet_spec.transforms.feature_outputs import with_feature_outputs
from resnet_spec.weights.canonical import Array

UNTIL = "import the part before them with --until PATH (until= in Python), or write the rest by hand"


@dataclass(frozen=True, slots=True)
class Recovered:
    """A spec's text and its network, with the weights under its names.

    Attributes:
        renamed: The model's names of weights that are called otherwise.
        unlike: The paths of parts that compute something else than the module there.
        notes: What the trace can't rule out.
    """

    spec: str
    network: Network
    weights: dict[str, Array]
    renamed: Mapping[str, str]
    unlike: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


def import_graphs(
    graphs: Sequence[Graph],
    name: str,
    input_shape: tuple[int, int, int],
    classes: Mapping[str, str],
    *,
    extends: bool = True,
) -> Recovered:
    """Return the spec of a model by its graphs on images of one or two sizes. Raises ImportRefused.

    ``classes`` holds the classes of the model's modules by path, which name blocks. Unless ``extends``, the spec stands
    on its own.
    """
    graph = graphs[0]
    _check_refused(graph)
    for other in graphs[1:]:
        if problem := reconcile(graph, other):
            raise ImportRefused("the model depends on the size of the image in a way that no spec says", [problem])
    if len(graphs) == 1:
        spread_same_padding(graph)
    drop_empty_pads(graph)
    recognize_curves(graph)
    _check_refused(graph)
    row = reduce_graph(graph)
    _check_tree(row)
    arranger = Arranger(row, graph.order, graph.has_modules)
    parts = arranger.network_parts(row, input_shape)
    weights = {full: graph.weights[own] for full, own in arranger.renamed.items()}
    if not parts:
        raise ImportRefused("the model returns the image as it is, and a spec has at least one layer")
    parts = with_initialization(parts, weights)
    target = Network(name, input_shape, parts)
    spec, network = recover_spec(target, classes, extends, bool(graph.order))
    if len(graph.outputs) > 1:
        network = _with_outputs(network, target, [arranger.path_of(node) for node in graph.outputs])
    renamed = {full: own for full, own in arranger.renamed.items() if full != own}
    ordered = {full: weights[full] for full in network.weights()}
    shapes = network.weights()
    unfit = [
        f"{name}: {array.shape}, not {shapes[name]}" for name, array in ordered.items() if array.shape != shapes[name]
    ]
    if unfit:
        raise ImportRefused("weights of the model have other shapes than the spec's", unfit)
    return Recovered(spec, network, ordered, renamed, frozenset(arranger.unlike), _notes(graph))


def _check_refused(graph: Graph) -> None:
    refused = [node for node in graph.nodes() if node.kind == "refused"]
    if refused:
        places = list(dict.fromkeys(f"{node.site}: {node.reason}" for node in refused if node.reason))
        count = f"{len(places)} calls" if len(places) > 1 else "a call"
        raise ImportRefused(
            f"the model makes {count} that the language can't say", [*places, *graph.control_flow], UNTIL
        )


def _check_tree(row: Row) -> None:
    pieces = [step.node for step in steps(row) if step.node.kind == "piece"]
    if pieces:
        places = [
            f"{node.site}: channels {node.channels[0]} to {node.channels[1]} of {node.inputs[0].shape[0]}"
            for node in pieces
        ]
        message = (
            "the model reads some channels of a map, but no branches that take all of them, in order, and meet again"
        )
        raise ImportRefused(message, places, UNTIL)
    resized = [str(step.node.site) for step in steps(row) if step.node.kind == "resized"]
    if resized:
        message = "the model resizes maps by other than an integer factor, and not where they meet one of that size"
        raise ImportRefused(message, resized, UNTIL)
    repeated = find_repeated(row)
    if repeated:
        places = [str(node.site) for node in repeated]
        message = (
            "layers with weights are used more than once, or two ways cross, which no tree of blocks and branches says"
        )
        raise ImportRefused(message, places, UNTIL)


def _notes(graph: Graph) -> tuple[str, ...]:
    """Return what the trace can't rule out."""
    if not graph.control_flow:
        return graph.notes
    places = "; ".join(graph.control_flow[:5])
    return (
        *graph.notes,
        f"the model looks at numbers that depend on the images, and may compute something else for others: {places}",
    )


def _with_outputs(network: Network, target: Network, paths: Sequence[str]) -> Network:
    """Return a network with the outputs that have the same values as parts of another."""
    wanted = dataflow_digests(target)
    digests = dataflow_digests(network)
    chosen = []
    for path in paths:
        if not path:
            message = (
                "the model returns a value that is computed beside the way to its last output; import up to a module"
            )
            raise ImportRefused(message, [], UNTIL)
        same = [other for other, digest in digests.items() if digest == wanted[path]]
        possible = [other for other in same if _is_output(network, other)]
        if not possible:
            raise ImportRefused(f"the output of {path} is inside a block or a branch, where no spec has outputs")
        chosen.append(min(possible, key=lambda path: path.count(".")))
    return with_feature_outputs(network, chosen)


def _is_output(network: Network, path: str) -> bool:
    try:
        with_feature_outputs(network, [path])
    except ValueError:
        return False
    return True


# -- text --------------------------------------------------------------------------------------------------------


def recover_spec(target: Network, classes: Mapping[str, str], extends: bool, is_ordered: bool) -> tuple[str, Network]:
    """Return the shortest text that loads as a network that computes the same, and that network."""
    fingerprint, names = dataflow_fingerprint(target), set(target.weights())

    def check(text: str) -> Network | None:
        try:
            network = loads(text, target.name)
        except (SpecError, ValueError):
            return None
        same = set(network.weights()) == names and dataflow_fingerprint(network) == fingerprint
        return network if same else None

    for document in _documents(target, classes, is_ordered):
        text = lay_out(document)
        network = check(text)
        if network is None:
            continue
        for shorter in differences(document, target) if extends else ():
            written = lay_out(shorter)
            if len(written.splitlines()) * 3 <= len(text.splitlines()) * 2 and (found := check(written)):
                return written, found
        return text, network
    text = to_yaml(target)
    network = check(text)
    if network is None:
        raise ImportRefused("the network was recovered, but no spec says it", [_why_not(text, target)], UNTIL)
    return text, network


def _why_not(text: str, target: Network) -> str:
    """Return why a text does not load as a network."""
    try:
        return f"what comes closest computes something else: {loads(text, target.name)!r}"
    except (SpecError, ValueError) as error:
        return "; ".join(problem.message for problem in error.problems) if isinstance(error, SpecError) else str(error)


def _documents(target: Network, classes: Mapping[str, str], is_ordered: bool) -> Iterator[dict[str, Any]]:
    """Yield documents that may say a network, the most readable first."""
    for options, parts in _optioned(target.parts):
        document = _document(target, parts, classes, True, is_ordered)
        if options:
            document = {
                "name": document.pop("name"),
                **({"takes": document.pop("takes")} if "takes" in document else {}),
                "input": document.pop("input"),
                "options": options,
                **document,
            }
        yield document
    yield _document(target, target.parts, classes, False, is_ordered)


def _document(
    target: Network, parts: Sequence[Part], classes: Mapping[str, str], uses_bundled: bool, is_ordered: bool
) -> dict[str, Any]:
    return recover_document(target.name, target.input, tuple(parts), classes, uses_bundled, is_ordered)


def _optioned(parts: tuple[Part, ...]) -> Iterator[tuple[dict[str, Any], tuple[Part, ...]]]:
    """Yield parts without what an option may say, with that option; lastly the parts as they are."""
    rates = [part.op.rate for part in walk(parts) if isinstance(part, Leaf) and isinstance(part.op, DropPath)]
    zeros = any(isinstance(part, Leaf) and getattr(part.op, "gamma", 1.0) == 0 for part in walk(parts))
    drop = {"drop_path": float(f"{max(rates):.6g}")} if rates else {}
    gamma = {"zero_last_gamma": True} if zeros else {}
    for options in ({**gamma, **drop}, gamma, drop):
        if options:
            changed = _without_gamma(parts) if "zero_last_gamma" in options else parts
            yield options, _without_drop_path(changed) if "drop_path" in options else changed
    yield {}, parts


def _without_gamma(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    def change(part: Part) -> Part:
        if isinstance(part, Leaf) and getattr(part.op, "gamma", 1.0) == 0:
            changes: dict[str, Any] = {"gamma": 1.0}
            return replace(part, op=replace(part.op, **changes))
        return part

    return map_parts(parts, change)


def _without_drop_path(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    def strip(row: tuple[Part, ...]) -> tuple[Part, ...]:
        kept = (part for part in row if not (isinstance(part, Leaf) and isinstance(part.op, DropPath)))
        return tuple(part.with_rows([strip(inner) for inner in part.rows]) for part in kept)

    return strip(parts)
