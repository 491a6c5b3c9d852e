"""``resnet-spec``: look at networks, check them, run them and compare frameworks, from a shell."""

from __future__ import annotations

import json
import sys
from typing import Any, NoReturn

import click

from resnet_spec import bundled
from resnet_spec.api import build, run
from resnet_spec.backend import BackendError, backends, load_backend
from resnet_spec.load import Setting, load
from resnet_spec.network import Network
from resnet_spec.source import SpecError

WRONG = 2  # the exit status of a command that could not do what was asked
DIFFERS = 1  # that of one which found what it looks for: a network that is not the same

_set = click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Set a name that the spec takes.")
_input = click.option("--input", "size", metavar="CxHxW", help="Show shapes for an image of this size.")
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="resnet-spec")
def cli() -> None:
    """Residual networks as data: one YAML spec, the same network in PyTorch, PaddlePaddle and Flax."""


@cli.command("list")
@_json
def list_(as_json: bool) -> None:
    """List the bundled networks: parameters, MACs, source."""
    from resnet_spec import table

    found = [(name, load(name)) for name in bundled.names()]
    if as_json:
        _print_json([{**table.summary(network), "name": name} for name, network in found])
    else:
        _print(table.networks(found))
        click.echo(f"backends: {', '.join(backends())}")


@cli.command()
@click.argument("spec")
@_set
@_input
@_json
def show(spec: str, settings: tuple[str, ...], size: str | None, as_json: bool) -> None:
    """Show every layer of a network: path, operation, shapes, parameters, MACs."""
    from resnet_spec import table

    network = _loaded(spec, settings, size)
    if as_json:
        _print_json({**table.summary(network), "layers": table.rows(network)})
    else:
        _print(table.layers(network))


@cli.command()
@click.argument("specs", nargs=-1, required=True)
@_json
def check(specs: tuple[str, ...], as_json: bool) -> None:
    """Check specs, and print every problem of each."""
    wrong: list[dict[str, object]] = []
    for spec in specs:
        try:
            load(spec)
        except SpecError as error:
            wrong += [_problem(problem) for problem in error.problems]
            if not as_json:
                click.echo(f"{error}\n", err=True)
        except OSError as error:
            wrong.append({"message": _said(error)})
            if not as_json:
                click.echo(f"error: {_said(error)}\n", err=True)
        else:
            if not as_json:
                click.echo(f"{spec}: no problems")
    if as_json:
        _print_json(wrong)
    if wrong:
        sys.exit(WRONG)


@cli.command("run")
@click.argument("spec")
@click.option("--image", required=True, metavar="FILE", help="A photograph, in any format that Pillow reads.")
@click.option("--backend", "names", metavar="NAME,...", help="Backends to run it in. [default: those installed, else numpy]")
@click.option("--weights", metavar="FILE", help="A safetensors file. [default: drawn from --seed]")
@click.option("--seed", default=0, show_default=True, help="What initial weights are drawn from.")
@click.option("--top", default=5, show_default=True, type=click.IntRange(1), help="How many classes to print.")
@_set
@_json
def run_(
    spec: str,
    image: str,
    names: str | None,
    weights: str | None,
    seed: int,
    top: int,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Run a network on a photograph, and print the likeliest classes by backend, side by side."""
    from resnet_spec import images

    network = _loaded(spec, settings, None)
    photo = images.prepare(image, network)
    found = {}
    for name in names.split(",") if names else _installed():
        model = build(network, backend=name, weights=weights, seed=seed, dtype="float32")
        found[name] = images.likeliest(run(model, photo)[0], top)
    if as_json:
        _print_json({name: [{"class": index, "probability": p} for index, p in best] for name, best in found.items()})
    else:
        _print(images.side_by_side(found))


@cli.command()
@click.argument("specs", nargs=-1, required=True)
@click.option("--backend", "names", metavar="NAME,...", help="Backends to compare. [default: those installed]")
@click.option("--dtype", "dtypes", multiple=True, type=click.Choice(["float64", "float32"]), help="[default: both]")
@click.option("--size", metavar="HxW", help="The images' size. [default: 72x56, or the spec's own where that is smaller]")
@_set
@_json
def parity(
    specs: tuple[str, ...],
    names: str | None,
    dtypes: tuple[str, ...],
    size: str | None,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Compare what backends compute, at every named node, with the reference in NumPy."""
    from resnet_spec import parity

    networks = [_comparable(spec, settings, size) for spec in specs]
    wanted = names.split(",") if names else _installed()
    for name in wanted:
        load_backend(name)
    results = []
    for network in networks:
        results += parity.compare(network, wanted, dtypes or ("float64", "float32"), _progress())
    if as_json:
        _print_json([parity.as_data(result) for result in results])
    else:
        _print(parity.as_table(results))
    if not all(result.same for result in results):
        sys.exit(DIFFERS)


def main() -> NoReturn:
    """Run the command line. Whatever is wrong with the input is said in sentences, with exit status 2."""
    try:
        cli.main(standalone_mode=False)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(WRONG)
    except click.Abort:
        click.echo("stopped", err=True)
        sys.exit(130)
    except SpecError as error:
        click.echo(str(error), err=True)
        sys.exit(WRONG)
    except (BackendError, ValueError, OSError) as error:
        click.echo(f"error: {_said(error)}", err=True)
        sys.exit(WRONG)
    sys.exit(0)


def _loaded(spec: str, settings: tuple[str, ...], size: str | None) -> Network:
    return load(spec, input=_numbers(size, "CxHxW", 3) if size else None, **dict(map(_setting, settings)))


def _comparable(spec: str, settings: tuple[str, ...], size: str | None) -> Network:
    """A network at the size to compare at: as asked, else small, else its own if it can't be that small."""
    from resnet_spec.parity import SIZE

    network = _loaded(spec, settings, None)
    channels, *own = network.input
    height, width = _numbers(size, "HxW", 2) if size else map(min, SIZE, own)
    try:
        return load(spec, input=(channels, height, width), **dict(map(_setting, settings)))
    except SpecError:
        if size:
            raise
        return network


def _setting(text: str) -> tuple[str, Setting]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise click.UsageError(f"--set takes NAME=VALUE, as in classes=10, not {text!r}")
    return name, value


def _numbers(text: str, form: str, count: int) -> tuple[int, ...]:
    numbers = text.lower().split("x")
    if len(numbers) != count or not all(number.isdecimal() and int(number) > 0 for number in numbers):
        raise click.UsageError(f"expected {form}, as in {'x'.join(['3', '224', '224'][-count:])}, not {text!r}")
    return tuple(map(int, numbers))


def _installed() -> list[str]:
    """The backends whose frameworks are here, the reference only where there is no other."""
    found = []
    for name in backends():
        try:
            load_backend(name)
        except BackendError:
            continue
        found.append(name)
    return [name for name in found if name != "numpy"] or found


def _problem(problem: Any) -> dict[str, object]:
    at = problem.at
    place = {"file": at.source.name, "line": at.line, "column": at.column, "end": at.end}
    return {"code": problem.code, "message": problem.message, **place, "help": problem.help}


def _said(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror.lower()}: {error.filename}"
    return str(error)


def _print(renderable: object) -> None:
    """Print by rich: as wide as the terminal, or as wide as the table needs where there is none."""
    from rich.console import Console

    console = Console()
    Console(width=None if console.is_terminal else 200).print(renderable)


def _progress() -> Any:
    from rich.console import Console

    console = Console(stderr=True)
    return console.status if console.is_terminal else None


def _print_json(data: object) -> None:
    click.echo(json.dumps(data, indent=2))


if __name__ == "__main__":
    main()
