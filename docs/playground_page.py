"""Write the playground, a page that edits and draws networks in the browser: ``python docs/playground_page.py FOLDER``.

The folder has to be served over HTTP; nothing is asked of any other server. It needs the packages that
``npm ci --prefix docs/playground`` installs. MkDocs uses this module as a hook; without those packages the site has a
page that says so.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

import resnet_spec
from resnet_spec.language.json_schema import spec_schema
from resnet_spec.library import bundled

HERE = Path(__file__).parent / "playground"
PACKAGES = HERE / "node_modules"
MISSING = (
    "The playground is not part of this site: it needs packages of npm, which were not there when the site was built. "
    "Run npm ci --prefix docs/playground, and build the site again."
)
COPIED = ("playground.html", "playground.css", "worker.js")
PYODIDE = ("pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "python_stdlib.zip", "pyodide-lock.json")
EMITTED = ("torch", "paddle", "flax")
"""The backends for which the playground writes code."""

UNUSED = re.compile(r"(^|/)__pycache__/|\.pyc$|^resnet_spec/specs/(generate|weights)/")
"""Files that the playground does without: what Python writes itself, the specs' generators, and tables of weights."""


def is_available() -> bool:
    """Whether npm's packages are installed."""
    return (PACKAGES / "pyodide").is_dir() and (PACKAGES / ".bin" / "esbuild").exists()


def write_playground(folder: Path) -> None:
    """Write all files of the playground into a folder. Raises FileNotFoundError without npm's packages."""
    if not is_available():
        raise FileNotFoundError(MISSING)
    (folder / "pyodide").mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        shutil.copyfile(HERE / name, folder / name.replace("playground.html", "index.html"))
    for name in PYODIDE:
        shutil.copyfile(PACKAGES / "pyodide" / name, folder / "pyodide" / name)
    write_json(folder / "schema.json", spec_schema())
    write_json(folder / "names.json", {"networks": bundled.names(), "blocks": describe_blocks()})
    write_core(folder / "core.zip")
    bundle_script(folder / "playground.js")


def bundle_script(path: Path) -> None:
    """Write the editor and the libraries that it uses as one script."""
    command = [
        str(PACKAGES / ".bin" / "esbuild"),
        "playground.js",
        "--bundle",
        "--minify",
        "--format=esm",
        "--target=es2022",
    ]
    command += ["--external:./worker.js", "--legal-comments=eof", "--log-level=warning", f"--outfile={path}"]
    subprocess.run(command, cwd=HERE, check=True)


def write_core(path: Path) -> None:
    """Write the core and the part of PyYAML that is Python, laid out as they are installed, as a ZIP archive."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, file in sorted(core_files()):
            if not UNUSED.search(name):
                entry = zipfile.ZipInfo(name)  # without the time, so that equal files make equal archives
                archive.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED)


def core_files() -> Iterator[tuple[str, Path]]:
    """Yield the name in the archive and the path of each file that the worker needs."""
    yield "session.py", HERE / "session.py"
    for backend in EMITTED:  # its source is copied into emitted code; the framework is not needed
        spec = find_spec(f"resnet_spec_{backend}")
        for location in (spec and spec.submodule_search_locations) or ():
            yield f"resnet_spec_{backend}/emitted_layers.py", Path(location) / "emitted_layers.py"
    package = Path(resnet_spec.__file__).parent
    for name, folder, pattern in (
        ("resnet_spec", package, "*"),
        ("resnet_spec/specs", Path(str(bundled.directory())), "*"),
        ("yaml", Path(yaml.__file__).parent, "*.py"),
    ):
        for file in folder.rglob(pattern):
            if file.is_file():
                yield f"{name}/{file.relative_to(folder).as_posix()}", file


def describe_blocks() -> dict[str, dict[str, Any]]:
    """Return for each bundled block what its first line says about it, and the arguments that it takes."""
    texts = {name: file.read_text(encoding="utf-8") for name, file in bundled.block_files().items()}
    return {
        name: {"about": text.partition("\n")[0].lstrip("# "), "takes": list(yaml.safe_load(text).get("takes", ()))}
        for name, text in texts.items()
    }


def write_json(path: Path, value: object) -> None:
    """Write a value as JSON without spaces."""
    path.write_text(json.dumps(value, separators=(",", ":"), ensure_ascii=False), encoding="utf-8", newline="\n")


def render_missing() -> str:
    """Return the HTML of the page of a site without the playground."""
    return f'<!DOCTYPE html>\n<html lang="en"><meta charset="utf-8"><title>Playground</title><p>{MISSING}</p></html>\n'


def on_files(files: Any, config: Any) -> Any:
    """Add the playground to the site that MkDocs builds, in place of its sources."""
    from mkdocs.structure.files import File, InclusionLevel

    for file in [file for file in files if file.src_uri.startswith("playground/")]:
        files.remove(file)
    for name, content in sorted(site_files().items()):
        made = File.generated(config, f"playground/{name}", content=content, inclusion=InclusionLevel.INCLUDED)
        files.append(made)
    return files


def site_files() -> dict[str, bytes]:
    """Return the files of the playground by name: one page that says what is missing, without npm's packages."""
    if not is_available():
        return {"index.html": render_missing().encode()}
    with TemporaryDirectory() as made:
        folder = Path(made)
        write_playground(folder)
        paths = [path for path in folder.rglob("*") if path.is_file()]
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


if __name__ == "__main__":
    try:
        write_playground(Path(sys.argv[1]))
    except FileNotFoundError as error:
        sys.exit(str(error))
