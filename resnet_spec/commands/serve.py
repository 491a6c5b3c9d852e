"""``serve``: a spec's page, redrawn as the file is saved."""

from __future__ import annotations

import click


@click.command()
@click.argument("spec")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0 is any that is free.")
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Another address opens the page to other machines."
)
def serve(spec: str, port: int, host: str) -> None:
    """Serve the page of a spec, redrawn as its files are saved, to this machine alone.

    It shows what `show --html` writes. What is wrong with an edit stands beside the last good drawing.
    """
    from resnet_spec.views.page.server import create_server

    try:
        made = create_server(spec, host, port)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f"can't serve at {host}, port {port}: {str(error.strerror).lower()}; try: --port 0") from None
    shown = f"[{host}]" if ":" in host else host
    click.echo(f"{spec} at http://{shown}:{made.server_port}/, until Ctrl+C")
    try:
        made.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        made.server_close()
