"""Specs with values, keys and parts changed, swapped or taken from other specs, through all that follows reading.

Each is a network or a list of problems, in time. A network passes through warnings, costs, features, options, YAML and
a drawing. 5,000 specs with ``pytest --sweep``, and a share of them in each run.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from time import process_time
from typing import Any

import pytest

from resnet_spec import Network, SpecError, loads
from resnet_spec.language.values import operation_arguments
from resnet_spec.library import bundled
from resnet_spec.library.load import find_source, load_document
from resnet_spec.network.costs import compute_costs
from resnet_spec.network.to_yaml import to_yaml
from resnet_spec.network.warnings import find_warnings
from resnet_spec.ops import OPS
from resnet_spec.syntax.nodes import parse
from resnet_spec.transforms.feature_outputs import with_feature_outputs
from resnet_spec.views.drawing.render import draw
from shared.every_operation import EVERY_OPERATION
from shared.machine_speed import scaled
from shared.paths import DATA, PROBLEMS
from shared.sampling import one_in
from shared.spec_documents import Json, as_json, mutate

PARTS, MUTANTS_PER_PART = 50, 100
MAX_SECONDS = 5.0
"""Most seconds of processor time for one spec."""
MAX_DRAWN = 400
"""Most parts of a network that is drawn: the time to draw more says nothing new."""

NUMBERS = [
    0,
    1,
    2,
    3,
    7,
    16,
    255,
    2**15,
    2**16 - 1,
    2**16,
    2**31 - 1,
    2**31,
    2**53 - 1,
    -1,
    0.5,
    1e-30,
    1e38,
    0.9999999,
]
NAMES = ["in", "out", "norm", "act", "none", "required", "projection", "convolution", "a.b", "0", "layer1.0", "x" * 100]
OPTIONS: dict[str, list[Any]] = {
    "output_stride": [1, 2, 3, 4, 8, 16, 32, 2**20],
    "drop_path": [0.1, 0.9999999],
    "drop_block": [0.1],
    "dropout": [0.2],
    "zero_last_gamma": [True],
    "pool": ["avg", "max", "avg_max", "avg_max_concat"],
    "act": ["silu", "none", "act", "basic"],
    "norm": ["layer_norm", "none", "evo_norm_s0"],
}


@cache
def correct_documents() -> list[Json]:
    names = random.Random(0).sample(bundled.names(), 60)
    texts = [(DATA / "everything.yaml").read_text(encoding="utf-8"), EVERY_OPERATION]
    sources = [find_source(name) for name in names]
    return [*(as_json(load_document(source)) for source in sources), *(as_json(_parse(text)) for text in texts)]


@cache
def wrong_documents() -> list[Json]:
    documents = []
    for path in sorted(PROBLEMS.glob("*.yaml")):
        try:
            documents.append(as_json(_parse(path.read_text(encoding="utf-8"))))
        except (SpecError, UnicodeDecodeError):  # no document at all
            continue
    return documents


def _parse(text: str) -> Any:
    from resnet_spec.diagnostics.problems import Source

    return parse(Source("a", text))


def nodes(document: Json) -> Iterator[tuple[Any, Any]]:
    """Yield each mapping or list in a document, with a key or an index of it."""
    if isinstance(document, dict | list):
        for key in document if isinstance(document, dict) else range(len(document)):
            yield document, key
            yield from nodes(document[key])


def change(document: Json, rng: random.Random) -> Json:
    """Return a document with one value replaced, swapped, repeated, or taken from another document."""
    places = list(nodes(document))
    if not places:
        return document
    holder, key = rng.choice(places)
    match rng.randrange(10):
        case 0:
            holder[key] = rng.choice(NUMBERS)
        case 7 | 8 | 9 if isinstance(holder[key], int):
            holder[key] = rng.choice([holder[key] + 1, 2 * holder[key], 3])
        case 7 | 8 if isinstance(holder, dict):
            holder.pop(key)
        case 1:
            holder[key] = rng.choice([*NAMES, *OPS, *bundled.block_files()])
        case 2:
            other, place = rng.choice(list(nodes(json.loads(json.dumps(rng.choice(correct_documents()))))))
            holder[key] = other[place]
        case 3:
            other, place = rng.choice(places)
            holder[key] = json.loads(json.dumps(other[place]))
        case 4 if isinstance(holder, dict):
            holder[rng.choice([*NAMES, "op", "block", "stride", "branches", "first", "reads"])] = holder.pop(key)
        case 5 if isinstance(holder, dict) and str(holder.get("op")) in OPS and operation_arguments(holder["op"]):
            holder[rng.choice(list(operation_arguments(holder["op"])))] = rng.choice(NUMBERS)
        case _:
            return mutate(document, rng)
    return document


def make_spec(rng: random.Random) -> str:
    document = json.loads(json.dumps(rng.choice(correct_documents() if rng.random() < 0.8 else wrong_documents())))
    for _ in range(rng.choice([1, 1, 1, 2, 3, 5])):
        document = change(document, rng)
    return json.dumps(document, ensure_ascii=False)


def use(text: str, network: Network, rng: random.Random) -> None:
    """Do with a network what commands do."""
    list(map(str, find_warnings(network)))
    assert network.parameters >= 0
    assert network.macs >= 0
    assert len(network.fingerprint) == 32
    assert compute_costs(network)[""].parameters == network.parameters
    features = [feature.path for feature in network.features()]
    if features:
        with_feature_outputs(network, features[-1:])
    assert loads(to_yaml(network)).parts == network.parts
    if sum(1 for _ in network.nodes()) < MAX_DRAWN:
        draw(network, rng.choice(["svg", "mmd", "dot"]))
    for name in rng.sample(list(OPTIONS), 3):
        expect_problems(lambda name=name: loads(text, **{name: rng.choice(OPTIONS[name])}))  # type: ignore[misc]


def expect_problems(action: Callable[[], object]) -> None:
    """Run an action that may raise SpecError, and print its problems."""
    try:
        action()
    except SpecError as error:
        assert str(error)


def check(text: str, rng: random.Random) -> bool:
    """Return whether a text is a valid spec. Fails on any other exception, and if it takes too long."""
    before = process_time()
    try:
        network = loads(text, name="mutant.yaml")
    except SpecError as error:
        assert str(error)
        return False
    else:
        use(text, network, rng)
        return True
    finally:
        assert process_time() - before < scaled(MAX_SECONDS), text


@pytest.mark.parametrize("part", one_in(PARTS, range(PARTS)))
def test_mutated_specs(part: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    rng = random.Random(part)
    accepted = sum(check(make_spec(rng), rng) for _ in range(MUTANTS_PER_PART))
    assert 2 < accepted < 80, "otherwise only one of the two cases is tested"
