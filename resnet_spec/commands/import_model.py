"""The ``import`` command: a spec from a PyTorch model, an ONNX file or a Keras model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from resnet_spec.checkpoints.formats.atomic import write_file
from resnet_spec.commands.options import (
    EXIT_DIFFERENT,
    input_option,
    json_option,
    parse_sizes,
    print_fitting,
    print_json,
    show_progress,
)

if TYPE_CHECKING:
    from resnet_spec.importing.sources import Imported

DEFAULT_INPUT = (3, 224, 224)


@click.command("import")
@click.argument("model")
@click.option("-o", "--output", metavar="FILE", help="YAML file to write. [default: print the spec]")
@click.option("--weights", metavar="FILE", help="Also write the weights, in the format that the suffix says.")
@input_option
@click.option("--name", metavar="NAME", help="Name of the network. [default: the file's, or that of the model's class]")
@click.option("--until", metavar="PATH", default="", help="Import the part of the model up to the module at PATH.")
@click.option("--alone", is_flag=True, help="Write a spec that extends no bundled network.")
@click.option("--force", is_flag=True, help="Write the spec even if it computes something else than the model.")
@json_option
def import_(
    model: str,
    output: str | None,
    weights: str | None,
    size: str | None,
    name: str | None,
    until: str,
    alone: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Write the spec of a PyTorch model, an ONNX file or a Keras model, proven to compute the same.

    MODEL is FILE.py:NAME or MODULE:NAME, of a torch.nn.Module or a function that returns one, with literal arguments
    in brackets if it takes some; timm:NAME; or the path of an .onnx, .keras or .h5 file, of which no code is run.
    """
    if output and Path(output).suffix not in (".yaml", ".yml"):
        raise click.UsageError(f"--output must end in .yaml, not {Path(output).name!r}")
    for path in filter(None, [output, weights]):
        if not Path(path).absolute().parent.is_dir():
            raise FileNotFoundError(f"no folder named {str(Path(path).parent)!r}")
    with show_progress(f"importing {model}"):
        imported = _import(model, size, name or (Path(output).stem if output else None), until, not alone)
    proven = imported.is_proven
    if proven or force:
        _write(imported, output, weights)
    if as_json:
        print_json(_to_json(imported, output, weights if proven or force else None))
    else:
        _print(imported, output, weights, proven, force)
    if not proven:
        sys.exit(EXIT_DIFFERENT)


def _import(model: str, size: str | None, name: str | None, until: str, extends: bool) -> Imported:
    from resnet_spec.importing import sources

    shape: Any = parse_sizes(size, "CxHxW", 3) if size else None
    suffix = Path(model).suffix.lower()
    if suffix == ".onnx":
        return sources.from_onnx(model, shape, name=name, until=until, extends=extends, check=False)
    if suffix in (".keras", ".h5", ".hdf5"):
        return sources.from_keras(model, shape, name=name, extends=extends, check=False)
    from resnet_spec.importing.named_models import load_named_model

    found = load_named_model(model)
    return sources.from_torch(found, shape or DEFAULT_INPUT, name=name, until=until, extends=extends, check=False)


def _write(imported: Imported, output: str | None, weights: str | None) -> None:
    """Write the weights, then the spec, each completely or not at all."""
    if weights:
        from resnet_spec.checkpoints.formats.tensors import Tensor
        from resnet_spec.checkpoints.transfer.convert import write

        arrays = {name: array.astype("float32") for name, array in imported.weights.items()}
        tensors = {name: Tensor(array.shape, array.dtype, array.copy) for name, array in arrays.items()}
        write(weights, imported.network, tensors)
    if output:
        write_file(output, imported.spec)


def _to_json(imported: Imported, output: str | None, weights: str | None) -> dict[str, Any]:
    return {
        "network": imported.network.name,
        "proven": imported.is_proven,
        "spec": imported.spec,
        "output": output,
        "weights": weights,
        "outputs": list(imported.network.outputs),
        "proof": [line.to_json() for line in imported.proof],
        "renamed": dict(imported.renamed),
        "notes": list(imported.notes),
    }


def _print(imported: Imported, output: str | None, weights: str | None, proven: bool, force: bool) -> None:
    from resnet_spec.importing.tables import proof_table

    if output is None and (proven or force):
        click.echo(imported.spec)
    print_fitting(proof_table(imported.proof), ("gate",))
    if imported.network.outputs:
        outputs = ", ".join(repr(path) for path in imported.network.outputs)
        click.echo(f"the model returns several maps; load the spec with outputs=[{outputs}]")
    if imported.renamed:
        examples = ", ".join(f"{own} is {full}" for full, own in list(imported.renamed.items())[:3])
        click.echo(f"{len(imported.renamed)} weights have other names in the spec: {examples}")
    for note in imported.notes:
        click.echo(f"note: {note}")
    if not proven:
        first = next((line for line in imported.proof if line.verdict == "differs"), None)
        where = f"first at {first.where}" if first else "nothing could be compared"
        written = "it is written all the same" if force else "nothing is written; --force writes it all the same"
        click.echo(f"the spec computes something else than the model, {where}: {written}", err=True)
        return
    for path in filter(None, [output, weights]):
        click.echo(f"wrote {path}")
