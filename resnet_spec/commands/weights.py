"""The ``weights`` command group: published weights, and differences between checkpoints."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from resnet_spec.commands.options import (
    EXIT_DIFFERENT,
    all_option,
    json_option,
    parse_settings,
    print_fitting,
    print_json,
    progress_bar,
    set_option,
    spec_option,
    status_line,
)

if TYPE_CHECKING:
    from resnet_spec.library.published import PublishedWeights

license_option = click.option(
    "--license", "licenses", metavar="NAME,...", help="Only weights under these licenses, such as apache-2.0,mit."
)


@click.group()
def weights() -> None:
    """List and get published weights, and compare checkpoints."""


@weights.command("list")
@click.argument("pattern", default="")
@license_option
@json_option
def list_(pattern: str, licenses: str | None, as_json: bool) -> None:
    """List published weights: of the network PATTERN, or of the networks with PATTERN in their names.

    An asterisk marks the weights that the network's library prefers.
    """
    from resnet_spec.downloads.fetch import is_cached
    from resnet_spec.downloads.hash_lock import read_lock
    from resnet_spec.downloads.tables import OPTIONAL_COLUMNS, render_published
    from resnet_spec.library.published import read_published

    _check_pattern(pattern)
    allowed, locked = _parse_licenses(licenses), read_lock()
    named = [record for record in read_published() if pattern in _names_of(record)]
    similar = [record for record in read_published() if pattern.lower() in record.spec.lower()]
    records = [record for record in named or similar if not allowed or record.license in allowed]
    cached = [is_cached(record, locked) for record in records]
    if as_json:
        print_json([{**asdict(record), "cached": known} for record, known in zip(records, cached, strict=True)])
        return
    print_fitting(render_published(records, cached), OPTIONAL_COLUMNS)
    click.echo(f"{len(records)} of {len(read_published())} published weights")


def _check_pattern(pattern: str) -> None:
    """Raise FileNotFoundError, with a name that may be meant, if no network has the pattern in its name."""
    from resnet_spec.library import bundled
    from resnet_spec.library.load import find_source

    if not any(pattern.lower() in name.lower() for name in bundled.names()):
        find_source(pattern)


def _names_of(record: PublishedWeights) -> tuple[str, ...]:
    """Return the names by which a network's published weights are listed alone."""
    return (record.spec, record.spec.rpartition("/")[2], *record.same_network)


def _parse_licenses(text: str | None) -> list[str]:
    """Return the licenses that are joined by commas. Raises UsageError if no weights have one of them."""
    from resnet_spec.library.published import list_licenses, read_published

    names = [name.strip().lower() for name in (text or "").split(",") if name.strip()]
    known = list_licenses(read_published())
    for name in names:
        if name not in known:
            raise click.UsageError(f"no weights have the license {name!r}; choose from {', '.join(known)}")
    return names


@weights.command("get")
@click.argument("spec")
@click.argument("tag", default="default")
@click.option("--from", "folder", metavar="FOLDER", help="Copy the file from a folder, and download nothing.")
@license_option
@json_option
def get(spec: str, tag: str, folder: str | None, licenses: str | None, as_json: bool) -> None:
    """Get the published weights of a network, verify them, and print where they are.

    They are taken from a cache, of this program or another one, or else downloaded, from where an earlier download
    broke off. Without TAG, get those that the network's library prefers.
    """
    from resnet_spec.downloads.fetch import fetch
    from resnet_spec.downloads.select import select_published
    from resnet_spec.downloads.tables import describe_fetched, fetched_data
    from resnet_spec.library.load import find_source

    find_source(spec)  # says which networks are meant, if there is none or several
    record = select_published(spec, tag)
    allowed = _parse_licenses(licenses) or None
    with progress_bar(record.key) as progress:
        fetched = fetch(record, folder=folder, licenses=allowed, progress=progress, tell=_tell)
    if as_json:
        print_json(fetched_data(fetched))
    else:
        click.echo(describe_fetched(fetched))


def _tell(message: str) -> None:
    click.echo(message, err=True)


@weights.command("diff")
@click.argument("first")
@click.argument("second")
@spec_option
@set_option
@click.option(
    "--under", multiple=True, metavar="PREFIX", help="Where the weights stand in FIRST and, if given again, in SECOND."
)
@all_option
@json_option
def diff(
    first: str, second: str, spec: str | None, settings: tuple[str, ...], under: tuple[str, ...], as_json: bool
) -> None:
    """Compare the arrays of two checkpoints, which may have different formats.

    Arrays that are in one of them alone, or in another shape, are listed too. The exit status is 1 if any differs.
    """
    from resnet_spec.checkpoints.transfer import tables
    from resnet_spec.checkpoints.transfer.difference import compare_checkpoints

    if len(under) > 2:
        raise click.UsageError("--under is given once or twice")
    places = (under[0] or None if under else None, under[1] or None if len(under) == 2 else None)
    with status_line() as progress:
        differences = compare_checkpoints(first, second, spec, parse_settings(settings), progress, places)
    if as_json:
        print_json([tables.difference_data(difference) for difference in differences])
    else:
        print_fitting(tables.render_differences(differences), tables.OPTIONAL_DIFFERENCE_COLUMNS)
    if not all(difference.identical for difference in differences):
        sys.exit(EXIT_DIFFERENT)
