"""The indexes of the bundled networks are current, and what is not is named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from resnet_spec.library import bundled, index
from shared.bundled_networks import bundled_network, bundled_networks


def test_a_share_of_the_indexes_is_current() -> None:
    """``python -m resnet_spec.library.index`` rewrites them; with ``--check``, as in CI, it reads all networks."""
    assert tuple(entry.name for entry in index.read_index()) == tuple(bundled.names())
    assert sorted(name for group in index.read_shapes() for name in group.names) == sorted(bundled.names())
    assert index.find_stale({name: bundled_network(name) for name in bundled.names()[::40]}) == []


@pytest.mark.sweep
def test_the_indexes_are_current() -> None:
    networks = bundled_networks()
    assert index.read_index() == index.build_index(networks)
    assert (bundled.directory() / index.SHAPES_FILE_NAME).read_text() == index.render_shapes(networks)


def test_what_is_not_current_is_named() -> None:
    network = bundled_network("resnet18")
    other = bundled_network("resnet34")
    networks = {"resnet18": network, "resnet34": replace(other, source="elsewhere"), "resnet50": network, "new": other}
    assert index.find_stale(networks) == ["resnet34", "resnet50", "new"]


@pytest.mark.parametrize("name", [index.FILE_NAME, index.SHAPES_FILE_NAME])
def test_the_check_names_the_file_and_changes_nothing(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(index, "load_networks", lambda: {"resnet18": bundled_network("resnet18")})
    before = (bundled.directory() / name).read_text()
    assert index.main(["--check"]) == 1
    assert "not current: index.json and shapes.json (their order or grouping)" in capsys.readouterr().out
    assert (bundled.directory() / name).read_text() == before
