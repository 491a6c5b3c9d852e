"""Published weights in the cache, in the caches of other tools, in folders, and from a server on this machine."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from filelock import FileLock
from safetensors.numpy import save

from resnet_spec.downloads import transfer
from resnet_spec.downloads.errors import DownloadError, LicenseError
from resnet_spec.downloads.fetch import fetch, find, is_cached
from resnet_spec.downloads.hash_lock import read_lock
from resnet_spec.library.published import PublishedFile, PublishedWeights
from shared.full_disk import full_disk
from shared.weights_server import WeightsServer, answer_with, break_off_at, fail_with, serve, wait_for

DATA = save({"fc.weight": np.arange(2**15, dtype=np.float32)})
OTHER = save({"fc.weight": np.zeros(2**15, np.float32)})
SHA256 = hashlib.sha256(DATA).hexdigest()
URL = "https://files.example/models/tiny.pth"
PATH = "/files.example/models/tiny.pth"
HUB_PATH = "/huggingface.co/timm/tiny.a1/resolve/main/model.safetensors"
VARIABLES = ("RESNET_SPEC_MIRROR", "RESNET_SPEC_OFFLINE", "HF_HUB_OFFLINE", "RESNET_SPEC_LOCK", "RESNET_SPEC_LICENSES")
TOOL_VARIABLES = ("TORCH_HOME", "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "KERAS_HOME", "HF_ENDPOINT")


def publish(sha256: str = SHA256[:8], registry: str = "timm", url: str = URL, md5: str = "") -> PublishedWeights:
    """Return a record of one file with an address."""
    file = PublishedFile(url, sha256=sha256, md5=md5)
    return PublishedWeights("timm/tiny", "a1", registry, "tiny", (file,), license="mit")


ON_HUB = PublishedFile(f"https:/{HUB_PATH}", hub="timm/tiny.a1", revision="main")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test a home of its own, with nothing in any cache."""
    for name in (*VARIABLES, *TOOL_VARIABLES, "XDG_CACHE_HOME", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RESNET_SPEC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(transfer, "PAUSE", 0.0)
    return tmp_path


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WeightsServer]:
    with serve() as running:
        monkeypatch.setenv("RESNET_SPEC_MIRROR", f"{running.address}/")
        running.files[PATH] = DATA
        running.files[HUB_PATH] = DATA
        yield running


def put(path: Path, data: bytes = DATA) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def list_files(folder: Path) -> list[str]:
    """Return the files of weights in a folder, without locks."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return sorted(str(path.relative_to(folder)) for path in paths if not path.name.endswith((".lock", "lock.json")))


def test_a_download_is_verified_and_kept_by_its_hash(server: WeightsServer, home: Path) -> None:
    told: list[str] = []
    fetched = fetch(publish(), tell=told.append)
    assert fetched.path == home / "cache" / SHA256 / "tiny.pth"
    assert fetched.path.read_bytes() == DATA
    assert list_files(home / "cache") == [f"{SHA256}/tiny.pth"]
    assert read_lock() == {URL: SHA256}
    assert told == [f"downloading {server.address}{PATH}"]
    again = fetch(publish(), tell=told.append)
    assert (again.path, again.place, server.count(PATH)) == (fetched.path, "the cache", 1)


def test_files_of_one_name_are_kept_apart(server: WeightsServer, home: Path) -> None:
    other = publish(hashlib.sha256(OTHER).hexdigest()[:8], url="https://other.example/tiny.pth")
    server.files["/other.example/tiny.pth"] = OTHER
    assert (fetch(publish()).path.read_bytes(), fetch(other).path.read_bytes()) == (DATA, OTHER)


@pytest.mark.parametrize("stated", [{"sha256": "00000000"}, {"sha256": "", "md5": "0" * 32}])
def test_a_wrong_hash_keeps_nothing(server: WeightsServer, home: Path, stated: dict[str, str]) -> None:
    with pytest.raises(DownloadError, match=r"is not timm/tiny a1: its (sha256|md5) is .*published.*; nothing is kept"):
        fetch(publish(**stated), tell=list[str]().append)
    assert list_files(home / "cache") == []
    assert read_lock() == {}


def test_the_first_hash_of_a_file_without_one_is_told_and_checked_ever_after(server: WeightsServer, home: Path) -> None:
    weights, told = publish(sha256=""), list[str]()
    fetched = fetch(weights, tell=told.append)
    assert SHA256 in told[-1]
    assert "every later file must have it" in told[-1]
    fetched.path.unlink()
    server.files[PATH] = OTHER
    with pytest.raises(DownloadError, match=r"was .* when it was first used; nothing is kept\. If the publisher has"):
        fetch(weights, tell=told.append)
    assert list_files(home / "cache") == []
    server.files[PATH] = DATA
    assert fetch(weights, tell=told.append).path == fetched.path


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"<html>Log in</html>", "it is not a checkpoint in a known format: it is a web page or XML"),
        (DATA[:-1], "it is not a valid safetensors file"),
        (b"", "it is not a checkpoint in a known format: it is empty"),
    ],
)
def test_a_file_without_a_known_hash_must_be_a_whole_checkpoint(
    server: WeightsServer, home: Path, data: bytes, said: str
) -> None:
    """Else a page to log in, or half a file, would be the first that is used, and be asked for ever after."""
    told: list[str] = []
    server.answers[PATH] = [answer_with(200, body=data)]
    with pytest.raises(DownloadError, match=rf"tiny\.pth is not timm/tiny a1: {said}.*; nothing is kept\. Try again"):
        fetch(publish(sha256=""), tell=told.append)
    put(home / "from" / "tiny.pth", data)
    with pytest.raises(DownloadError, match=rf"tiny\.pth is not timm/tiny a1: {said}.*; nothing is kept\. Try again"):
        fetch(publish(sha256=""), folder=home / "from")
    put(home / ".cache/torch/hub/checkpoints/tiny.pth", data)
    assert find(publish(sha256=""), told.append) is None
    assert f"hub/checkpoints/tiny.pth is not used for timm/tiny a1: {said}" in told[-1]
    assert (list_files(home / "cache"), read_lock()) == ([], {})
    assert fetch(publish(sha256=""), tell=told.append).path.read_bytes() == DATA


def test_a_lock_of_a_project_is_used(server: WeightsServer, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESNET_SPEC_LOCK", str(home / "weights.lock"))
    (home / "weights.lock").write_text(json.dumps({URL: {"sha256": hashlib.sha256(OTHER).hexdigest()}}))
    with pytest.raises(DownloadError, match="when it was first used"):
        fetch(publish(sha256=""), tell=list[str]().append)
    (home / "weights.lock").write_text("[")
    with pytest.raises(DownloadError, match=r"weights\.lock is not a lock of published weights; restore it"):
        fetch(publish(sha256=""), tell=list[str]().append)
    monkeypatch.setenv("RESNET_SPEC_LOCK", str(home))
    with pytest.raises(DownloadError, match="is not a lock of published weights; restore it"):
        fetch(publish(sha256=""), tell=list[str]().append)


def test_the_next_place_is_tried_and_all_failures_are_told(server: WeightsServer, home: Path) -> None:
    weights = replace(publish(), files=(*publish().files, ON_HUB))
    del server.files[PATH]
    assert fetch(weights, tell=list[str]().append).file == ON_HUB
    del server.files[HUB_PATH]
    with pytest.raises(DownloadError, match=r"cannot download timm/tiny a1\ncannot .* 404 .*\ncannot .* 404 "):
        fetch(replace(weights, files=(weights.files[0], replace(ON_HUB, url=f"{ON_HUB.url}?new"))))


def test_a_cut_download_is_resumed_by_the_next_call(
    server: WeightsServer, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "ATTEMPTS", 1)
    server.answers[PATH] = [break_off_at(5000)]
    with pytest.raises(DownloadError, match="5,000 bytes are kept, and the same command continues from there"):
        fetch(publish())
    assert fetch(publish()).path.read_bytes() == DATA
    assert [asked for _, asked in server.requests] == ["", "bytes=5000-"]


def test_a_resumed_file_of_wrong_bytes_is_not_kept(
    server: WeightsServer, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "ATTEMPTS", 1)
    server.answers[PATH] = [break_off_at(5000)]
    with pytest.raises(DownloadError):
        fetch(publish())
    part = next((home / "cache" / "partial").glob("*.part"))
    part.write_bytes(b"\0" * 5000)
    with pytest.raises(DownloadError, match="nothing is kept"):
        fetch(publish())
    assert list_files(home / "cache") == []
    assert fetch(publish()).path.read_bytes() == DATA


@pytest.mark.parametrize("variable", ["RESNET_SPEC_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_downloads_nothing(server: WeightsServer, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "1")
    with pytest.raises(
        DownloadError, match=rf"timm/tiny a1 is in no cache, and {variable} forbids downloads; .*tiny.pth"
    ):
        fetch(publish())
    assert server.requests == []


def test_restricted_licenses_are_told_before_the_first_download(server: WeightsServer) -> None:
    for license, said in {"cc-by-nc-4.0": "which forbids commercial use", "unknown": "nobody states"}.items():
        told: list[str] = []
        server.answers[PATH] = [fail_with(404)]
        with pytest.raises(DownloadError):
            fetch(replace(publish(), license=license), tell=told.append)
        assert said in told[0]
        assert told[1].startswith("downloading")


def test_a_license_that_is_not_allowed_is_refused(server: WeightsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = replace(publish(), license="cc-by-nc-4.0")
    said = "the license of timm/tiny a1 is cc-by-nc-4.0, which forbids commercial use; allowed: mit"
    with pytest.raises(LicenseError, match=said):
        fetch(weights, licenses=["mit"])
    monkeypatch.setenv("RESNET_SPEC_LICENSES", "mit, bsd-3-clause")
    with pytest.raises(LicenseError, match="allowed: bsd-3-clause, mit"):
        fetch(weights)
    assert server.requests == []
    monkeypatch.setenv("RESNET_SPEC_LICENSES", "CC-BY-NC-4.0")
    assert fetch(weights, tell=list[str]().append).path.read_bytes() == DATA


SNAPSHOT = "models--timm--tiny.a1/snapshots/0123abcd/model.safetensors"
LAYOUTS = {
    "torch.hub": (".cache/torch/hub/checkpoints/tiny.pth", publish()),
    "Paddle": (".cache/paddle/hapi/weights/tiny.pth", publish("", "paddle.vision", md5=hashlib.md5(DATA).hexdigest())),
    "PaddleClas": (".paddleclas/weights/tiny.pth", publish("", "paddleclas")),
    "Keras": (".keras/models/tiny.pth", publish("", "keras", md5=hashlib.md5(DATA).hexdigest())),
    "Hugging Face": (f".cache/huggingface/hub/{SNAPSHOT}", replace(publish(), files=(ON_HUB,))),
}


@pytest.mark.parametrize("tool", LAYOUTS)
def test_caches_of_other_tools_are_used_in_place(home: Path, tool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place, weights = LAYOUTS[tool]
    monkeypatch.setenv("RESNET_SPEC_OFFLINE", "1")
    path = put(home / place)
    assert is_cached(weights, {})
    fetched = fetch(weights, tell=list[str]().append)
    assert (fetched.path, fetched.place) == (path, f"the cache of {tool}")
    assert list_files(home / "cache") == []


@pytest.mark.parametrize(
    ("variable", "folder", "place"),
    [
        ("TORCH_HOME", "there", "there/hub/checkpoints/tiny.pth"),
        ("XDG_CACHE_HOME", "there", "there/torch/hub/checkpoints/tiny.pth"),
        ("HF_HOME", "there", f"there/hub/{SNAPSHOT}"),
        ("HF_HUB_CACHE", "there", f"there/{SNAPSHOT}"),
        ("KERAS_HOME", "there", "there/models/tiny.pth"),
    ],
)
def test_other_tools_variables_are_respected(
    home: Path, variable: str, folder: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(home / place)
    weights = replace(publish(), files=(*publish().files, ON_HUB))
    assert find(weights) is None
    monkeypatch.setenv(variable, str(home / folder))
    found = find(weights, list[str]().append)
    assert found is not None
    assert found.path == home / place


def test_the_hub_cache_gives_the_revision_of_the_branch(home: Path) -> None:
    cached = home / ".cache" / "huggingface" / "hub" / "models--timm--tiny.a1"
    put(cached / "snapshots" / "000" / "model.safetensors", OTHER)
    put(cached / "snapshots" / "fff" / "model.safetensors")
    put(cached / "refs" / "main", b"fff\n")
    found = find(replace(publish(), files=(ON_HUB,)), list[str]().append)
    assert found is not None
    assert found.path.parent.name == "fff"


def test_a_file_of_the_same_name_and_other_contents_is_told_and_not_used(home: Path, server: WeightsServer) -> None:
    put(home / ".cache/torch/hub/checkpoints/tiny.pth", OTHER)
    told: list[str] = []
    assert fetch(publish(), tell=told.append).path.read_bytes() == DATA
    assert "hub/checkpoints/tiny.pth is not used for timm/tiny a1: its sha256 is" in told[0]
    assert len(told) == 2


def test_a_name_alone_counts_only_in_the_cache_of_the_tool_that_downloads_it(home: Path) -> None:
    put(home / ".cache/torch/hub/checkpoints/tiny.pth")
    assert find(publish("", "paddleclas")) is None
    assert find(publish("", "torchvision"), list[str]().append) is not None


@pytest.mark.parametrize(
    "place",
    [
        "tiny.pth",
        "hub/checkpoints/tiny.pth",
        "checkpoints/tiny.pth",
        "hapi/weights/tiny.pth",
        "weights/tiny.pth",
        "models/tiny.pth",
        "files.example/models/tiny.pth",
        f"{SHA256}/tiny.pth",
        f"hub/{SNAPSHOT}",
        SNAPSHOT,
        "timm/tiny.a1/model.safetensors",
        "tiny.a1/model.safetensors",
    ],
)
def test_a_folder_of_any_layout_is_copied_to_the_cache(home: Path, place: str) -> None:
    put(home / "from" / place)
    weights = replace(publish(), files=(*publish().files, ON_HUB))
    fetched = fetch(weights, folder=home / "from", tell=list[str]().append)
    assert fetched.path.is_relative_to(home / "cache" / SHA256)
    assert fetched.path.read_bytes() == DATA
    found = find(weights)
    assert found is not None
    assert found.place == "the cache"


def test_a_copy_of_a_repository_is_a_folder_too(home: Path) -> None:
    put(home / "tiny.a1" / "model.safetensors")
    put(home / "another" / "model.safetensors")
    weights = replace(publish(), files=(ON_HUB,))
    with pytest.raises(DownloadError, match=r"another has no timm/tiny\.a1/model\.safetensors of timm/tiny a1"):
        fetch(weights, folder=home / "another")
    assert fetch(weights, folder=home / "tiny.a1", tell=list[str]().append).path.read_bytes() == DATA


def test_a_folder_with_a_wrong_file_or_none_is_refused(home: Path) -> None:
    put(home / "from" / "tiny.pth", OTHER)
    with pytest.raises(DownloadError, match=r"from/tiny\.pth is not timm/tiny a1: its sha256 .*; nothing is kept"):
        fetch(publish(), folder=home / "from")
    with pytest.raises(DownloadError, match=r"no folder named '.*nowhere'$"):
        fetch(publish(), folder=home / "nowhere")
    with pytest.raises(DownloadError, match=r"no folder named '.*tiny\.pth'; name the folder that the file is in"):
        fetch(publish(), folder=home / "from" / "tiny.pth")
    assert list_files(home / "cache") == []
    assert (home / "from" / "tiny.pth").read_bytes() == OTHER


def test_a_copy_that_fails_leaves_nothing(home: Path) -> None:
    put(home / "from" / "tiny.pth")
    with full_disk(50_000), pytest.raises(DownloadError, match="file too large"):
        fetch(publish(), folder=home / "from")
    assert list_files(home / "cache") == []


def test_a_cache_that_cannot_be_written_is_a_sentence(
    home: Path, server: WeightsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(home / "file")
    monkeypatch.setenv("RESNET_SPEC_CACHE", str(home / "file" / "cache"))
    with pytest.raises(DownloadError, match=r"^cannot write to .*: not a directory; .* set RESNET_SPEC_CACHE to"):
        fetch(publish(), tell=list[str]().append)
    put(home / ".cache/torch/hub/checkpoints/tiny.pth")
    assert fetch(publish()).place == "the cache of torch.hub"  # which needs no writing


def test_a_full_disk_is_a_sentence_and_keeps_nothing(home: Path, server: WeightsServer) -> None:
    message = r"^cannot write to .*: file too large; make room there"
    with full_disk(50_000), pytest.raises(DownloadError, match=message):
        fetch(publish(), tell=list[str]().append)
    assert list_files(home / "cache") == []


def test_a_lock_that_cannot_be_written_keeps_nothing(
    home: Path, server: WeightsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file without a known hash would lie in the cache, and nobody would find it there."""
    put(home / "file")
    monkeypatch.setenv("RESNET_SPEC_LOCK", str(home / "file" / "lock.json"))
    with pytest.raises(DownloadError, match=r"file: it is a file, not a folder; .* or set RESNET_SPEC_LOCK to"):
        fetch(publish(sha256=""), tell=list[str]().append)
    assert list_files(home / "cache") == []


def test_a_folder_where_a_file_belongs_keeps_nothing(home: Path, server: WeightsServer) -> None:
    (home / "cache" / SHA256 / "tiny.pth" / "full").mkdir(parents=True)
    with pytest.raises(DownloadError, match=r"^cannot write to .*tiny\.pth: it is a folder, a pipe or a dev"):
        fetch(publish(), tell=list[str]().append)
    assert list_files(home / "cache") == []


def test_without_a_network_it_says_how_to_do_without(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve() as gone:
        monkeypatch.setenv("RESNET_SPEC_MIRROR", gone.address)
    with pytest.raises(DownloadError) as caught:
        fetch(replace(publish(), files=(*publish().files, ON_HUB)), tell=list[str]().append)
    lines = str(caught.value).splitlines()
    assert [line.partition("http")[0] for line in lines[:3]] == [
        "cannot download timm/tiny a1",
        "cannot download ",
        "cannot download ",
    ]
    assert lines[3] == (
        "without a network, take tiny.pth or timm/tiny.a1/model.safetensors from a folder: "
        "resnet-spec weights get timm/tiny a1 --from FOLDER"
    )


FETCH = f"""
from resnet_spec.downloads.fetch import fetch
from resnet_spec.library.published import PublishedFile, PublishedWeights
files = (PublishedFile({URL!r}, sha256={SHA256[:8]!r}),)
print(fetch(PublishedWeights("timm/tiny", "a1", "timm", "tiny", files), tell=str).place)
"""


def test_two_processes_download_a_file_once(server: WeightsServer, home: Path) -> None:
    server.answers[PATH] = [wait_for(1.5)]
    command = [sys.executable, "-c", FETCH]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) for _ in range(2)]
    assert sorted(process.communicate(timeout=300)[0].strip() for process in both) == sorted(
        [f"{server.address}{PATH}", "the cache"]
    )
    assert server.count(PATH) == 1
    assert list_files(home / "cache") == [f"{SHA256}/tiny.pth"]


def test_who_waits_for_another_process_is_told_so(server: WeightsServer, home: Path) -> None:
    with pytest.raises(DownloadError):
        fetch(publish(sha256="0" * 64), tell=list[str]().append)  # which leaves its lock
    lock = FileLock(next((home / "cache" / "partial").glob("*.lock")))
    lock.acquire()
    told: list[str] = []

    def tell(message: str) -> None:
        told.append(message)
        lock.release()

    assert fetch(publish(), tell=tell).path.read_bytes() == DATA
    assert told[0] == f"waiting for another process, which is getting {URL}"


def test_a_process_that_is_killed_leaves_no_lock(server: WeightsServer, home: Path) -> None:
    server.answers[PATH] = [wait_for(30)]
    process = subprocess.Popen([sys.executable, "-c", FETCH], env=os.environ)
    while not server.requests:
        assert process.poll() is None
    process.kill()
    process.wait()
    assert fetch(publish(), tell=list[str]().append).path.read_bytes() == DATA


HUB_FETCH = """
from resnet_spec.downloads.fetch import fetch
from resnet_spec.library.published import PublishedFile, PublishedWeights
file = PublishedFile("https:/{path}", hub="timm/tiny.a1", revision="main")
print(fetch(PublishedWeights("timm/tiny", "a1", "timm", "tiny", (file,)), tell=str).path)
"""


@pytest.mark.parametrize("library", [True, False])
def test_the_hubs_own_library_and_endpoint_are_used(server: WeightsServer, home: Path, library: bool) -> None:
    if library:
        pytest.importorskip("huggingface_hub.file_download", exc_type=ImportError)
    server.files["/timm/tiny.a1/resolve/main/model.safetensors"] = DATA
    code = HUB_FETCH.format(path=HUB_PATH)
    hide = "" if library else "import sys; sys.modules['huggingface_hub'] = None\n"
    env = {key: value for key, value in os.environ.items() if key != "RESNET_SPEC_MIRROR"}
    done = subprocess.run(
        [sys.executable, "-c", hide + code],
        capture_output=True,
        text=True,
        check=False,
        env={**env, "HF_ENDPOINT": server.address, "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_XET": "1"},
    )
    assert done.returncode == 0, done.stderr
    path = Path(done.stdout.strip().splitlines()[-1])
    assert path.read_bytes() == DATA
    assert path.is_relative_to(home / (".cache/huggingface/hub" if library else "cache"))


@pytest.mark.parametrize("data", [None, b"<html>Log in</html>"])
def test_what_the_hubs_own_library_cannot_get_is_a_sentence(
    home: Path, monkeypatch: pytest.MonkeyPatch, data: bytes | None
) -> None:
    """Without a network it raises FileNotFoundError, and what it downloads may be anything."""

    def hf_hub_download(hub: str, name: str, revision: str) -> str:
        if data is None:
            raise FileNotFoundError("Please check your connection.\nAnd try again.")
        return str(put(home / name, data))

    library = SimpleNamespace(hf_hub_download=hf_hub_download)
    monkeypatch.setattr("resnet_spec.downloads.fetch._find_hub_library", lambda: library)
    with pytest.raises(DownloadError) as caught:
        fetch(replace(publish(), files=(ON_HUB,)), tell=list[str]().append)
    said = (
        "cannot download timm/tiny.a1: Please check your connection.\n"
        "without a network, take timm/tiny.a1/model.safetensors from a folder: resnet-spec weights get timm/tiny a1"
        if data is None
        else f"{home / 'model.safetensors'} is not timm/tiny a1: it is not a valid safetensors file"
    )
    assert str(caught.value).startswith(said)
    assert read_lock() == {}
