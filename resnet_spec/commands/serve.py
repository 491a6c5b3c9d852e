"""The ``serve`` command: serve the page of a spec, which is redrawn whenever the spec is saved."""

from __future__ import annotations

import click

from resnet_spec.commands.options import parse_settings, set_option
from resnet_spec.diagnostics.problems import one_line


@click.command()
@click.argument("spec")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0 selects a free port.")
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="With another address, other machines can open the page."
)
@set_option
def serve(spec: str, port: int, host: str, settings: tuple[str, ...]) -> None:
    """Serve the page of a spec to this machine, and redraw it whenever its files are saved.

    The page is the one that `show --html` writes. Problems in an edit are shown beside the last valid drawing.
    """
    from resnet_spec.views.page.server import create_server, format_host

    try:
        server = create_server(spec, host, port, parse_settings(settings))
    except FileNotFoundError:  # there is no such spec; every other OSError is about the address
        raise
    except OSError as error:
        raise ValueError(f"can't serve at {host}, port {port}: {str(error.strerror).lower()}; try: --port 0") from None
    click.echo(f"serving {one_line(spec)} at http://{format_host(host)}:{server.server_port}/; press Ctrl+C to stop")
    try:
        server.serve_forever()
    finally:
        server.server_close()
