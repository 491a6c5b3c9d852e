"""Downloads from a server on this machine: resumed, redirected, broken, slow, refused."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from resnet_spec.downloads import transfer
from resnet_spec.downloads.errors import DownloadError, UnreachableError
from resnet_spec.downloads.transfer import download
from shared.full_disk import full_disk
from shared.weights_server import (
    Answer,
    WeightsServer,
    answer_with,
    break_off_at,
    fail_with,
    ignore_range,
    redirect_to,
    serve,
    wait_for,
)

DATA = bytes(range(256)) * 4096


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "PAUSE", 0.0)
    monkeypatch.setattr(transfer, "TIMEOUT", 0.5)
    for name in ("http_proxy", "https_proxy", "all_proxy", "SSL_CERT_FILE", *transfer.CERTIFICATES):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def server() -> Iterator[WeightsServer]:
    with serve() as running:
        running.files["/w.pth"] = DATA
        yield running


def test_a_file_is_downloaded_with_progress(server: WeightsServer, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    download(f"{server.address}/w.pth", tmp_path / "w.part", lambda done, total: seen.append((done, total)))
    assert (tmp_path / "w.part").read_bytes() == DATA
    assert seen[-1] == (len(DATA), len(DATA))
    assert len(seen) > 1


def test_a_broken_connection_is_resumed(server: WeightsServer, tmp_path: Path) -> None:
    server.answers["/w.pth"] = [break_off_at(300_000), break_off_at(200_000)]
    download(f"{server.address}/w.pth", tmp_path / "w.part")
    assert (tmp_path / "w.part").read_bytes() == DATA
    assert [asked for _, asked in server.requests] == ["", "bytes=300000-", "bytes=500000-"]


def test_a_later_call_resumes_what_an_earlier_one_left(
    server: WeightsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "ATTEMPTS", 1)
    server.answers["/w.pth"] = [break_off_at(1000)]
    with pytest.raises(DownloadError, match=r"broke off after 1,000 of 1,048,576 bytes; 1,000 bytes are kept"):
        download(f"{server.address}/w.pth", tmp_path / "w.part")
    download(f"{server.address}/w.pth", tmp_path / "w.part")
    assert (tmp_path / "w.part").read_bytes() == DATA
    assert server.requests[-1][1] == "bytes=1000-"


def test_another_version_is_not_appended(server: WeightsServer, tmp_path: Path) -> None:
    server.answers["/w.pth"] = [break_off_at(1000), lambda handler, _: fail_with(503)(handler, b"")]
    server.files["/w.pth"] = DATA
    part = tmp_path / "w.part"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transfer, "ATTEMPTS", 2)
        with pytest.raises(DownloadError, match="503"):
            download(f"{server.address}/w.pth", part)
    server.files["/w.pth"] = DATA[::-1]
    download(f"{server.address}/w.pth", part)
    assert part.read_bytes() == DATA[::-1]


def test_a_server_without_ranges_sends_all_again(server: WeightsServer, tmp_path: Path) -> None:
    server.answers["/w.pth"] = [break_off_at(1000), ignore_range]
    download(f"{server.address}/w.pth", tmp_path / "w.part")
    assert (tmp_path / "w.part").read_bytes() == DATA


def test_more_than_the_file_is_started_again(server: WeightsServer, tmp_path: Path) -> None:
    server.answers["/w.pth"] = [break_off_at(1000)]
    (tmp_path / "w.part").write_bytes(DATA + b"more")
    (tmp_path / "w.etag").write_text('"another"')
    server.answers["/w.pth"] = [fail_with(416)]
    download(f"{server.address}/w.pth", tmp_path / "w.part")
    assert (tmp_path / "w.part").read_bytes() == DATA


def test_redirects_are_followed(server: WeightsServer, tmp_path: Path) -> None:
    server.answers["/old.pth"] = [redirect_to("/w.pth?signed=1")]
    download(f"{server.address}/old.pth", tmp_path / "w.part")
    assert (tmp_path / "w.part").read_bytes() == DATA


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("/w.pth", "the server redirects in a circle, or to no address of http or https"),
        ("file:///etc/passwd", "the server redirects in a circle, or to no address of http or https"),
        ("ftp://127.0.0.1/w.pth", "the server redirects in a circle, or to no address of http or https"),
        ("http://[bad/w.pth", r"it leads to an invalid address \("),
        ("http://127.0.0.1:port/w.pth", r"it leads to an invalid address \("),
    ],
)
def test_redirects_that_lead_nowhere_are_a_sentence(
    server: WeightsServer, tmp_path: Path, address: str, said: str
) -> None:
    server.answers["/w.pth"] = [redirect_to(address)] * 20
    with pytest.raises(DownloadError, match=rf"^cannot download http://[^ ]+/w\.pth: {said}[^\n]*$"):
        download(f"{server.address}/w.pth", tmp_path / "w.part")
    assert list(tmp_path.iterdir()) == []


REST = f"Content-Range: bytes 1000-{len(DATA) - 1}/{len(DATA)}"


@pytest.mark.parametrize(
    "answer",
    [
        answer_with(206, f"Content-Range: bytes 0-499/{len(DATA)}", "Content-Length: 500", body=DATA[:500]),
        answer_with(206, f"Content-Range: bytes 70-99/{len(DATA)}", "Content-Length: 30", body=DATA[70:100]),
        answer_with(206, f"Content-Range: bytes 1000-1499/{len(DATA)}", "Content-Length: 500", body=DATA[1000:1500]),
        answer_with(206, REST, 'ETag: "another"', f"Content-Length: {len(DATA) - 1000}", body=DATA[:0:-1][999:]),
        answer_with(206, "Content-Range: all", "Content-Length: 500", body=DATA[1000:1500]),
        answer_with(200, f"Content-Length: {len(DATA)}", body=DATA[:500]),
        answer_with(200, "Transfer-Encoding: chunked", body=b"zz\r\n"),
    ],
)
def test_what_a_server_says_of_a_part_is_checked(server: WeightsServer, tmp_path: Path, answer: Answer) -> None:
    """A part that was not asked for, that is not all of the rest, or of another version, is not taken for the rest."""
    server.answers["/w.pth"] = [break_off_at(1000), answer]
    download(f"{server.address}/w.pth", tmp_path / "w.part")
    assert (tmp_path / "w.part").read_bytes() == DATA


def test_a_web_page_is_no_file_and_leaves_what_was_received(
    server: WeightsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that asks for a login answers every request with its page."""
    page = answer_with(200, "Content-Type: text/html; charset=utf-8", body=b"<html>Log in</html>")
    server.answers["/w.pth"] = [break_off_at(1000), page]
    with pytest.raises(DownloadError, match="the server sends a web page, such as one to log in, and not a file"):
        download(f"{server.address}/w.pth", tmp_path / "w.part")
    download(f"{server.address}/w.pth", tmp_path / "w.part")
    assert (tmp_path / "w.part").read_bytes() == DATA
    assert server.requests[-1][1] == "bytes=1000-"


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_a_file_is_refused(server: WeightsServer, tmp_path: Path, status: int) -> None:
    server.answers["/w.pth"] = [answer_with(status)]
    with pytest.raises(DownloadError, match=f"{status}"):
        download(f"{server.address}/w.pth", tmp_path / "w.part")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("tag", [b"\xff\xfe", b"two\nlines", b""])
def test_a_damaged_version_of_a_part_starts_again(server: WeightsServer, tmp_path: Path, tag: bytes) -> None:
    (tmp_path / "w.part").write_bytes(b"x" * 1000)
    (tmp_path / "w.etag").write_bytes(tag)
    download(f"{server.address}/w.pth", tmp_path / "w.part")
    assert (tmp_path / "w.part").read_bytes() == DATA


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_refusal_is_a_sentence_at_once(server: WeightsServer, tmp_path: Path, status: int) -> None:
    server.answers["/w.pth"] = [fail_with(status)]
    with pytest.raises(DownloadError, match=rf"^cannot download http.*/w\.pth: the server answers {status} \w+"):
        download(f"{server.address}/w.pth", tmp_path / "w.part")
    assert list(tmp_path.iterdir()) == []
    assert server.count("/w.pth") == 1


def test_a_busy_server_is_asked_again(server: WeightsServer, tmp_path: Path) -> None:
    server.answers["/w.pth"] = [fail_with(503), fail_with(429)]
    download(f"{server.address}/w.pth", tmp_path / "w.part")
    assert server.count("/w.pth") == 3


def test_a_slow_server_is_asked_again_and_then_given_up(
    server: WeightsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers["/w.pth"] = [wait_for(1)]
    download(f"{server.address}/w.pth", tmp_path / "w.part")
    monkeypatch.setattr(transfer, "ATTEMPTS", 1)
    server.answers["/w.pth"] = [wait_for(1)]
    with pytest.raises(DownloadError, match=r"the server did not answer within 0\.5 seconds"):
        download(f"{server.address}/w.pth", tmp_path / "other.part")


def test_no_server_and_no_network_are_sentences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "ATTEMPTS", 2)
    with serve() as server:
        address = server.address
    monkeypatch.setattr(
        "resnet_spec.downloads.transfer.time.sleep", lambda seconds: pytest.fail("waits for what does not come")
    )
    with pytest.raises(UnreachableError, match=r"there is no connection \(connection refused\)"):
        download(f"{address}/w.pth", tmp_path / "w.part")
    monkeypatch.setenv("http_proxy", address)
    with pytest.raises(UnreachableError, match=r"no connection through the proxy of http_proxy \(connection refused\)"):
        download("http://files.example/w.pth", tmp_path / "w.part")
    for wrong in ("file:///etc/passwd", "http://[bad/w.pth", "w.pth"):
        with pytest.raises(DownloadError, match="only http and https"):
            download(wrong, tmp_path / "w.part")
    assert list(tmp_path.iterdir()) == []


def test_a_proxy_of_the_environment_is_used(
    server: WeightsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["http://files.example/w.pth"] = DATA
    monkeypatch.setenv("http_proxy", server.address)
    monkeypatch.delenv("no_proxy", raising=False)
    download("http://files.example/w.pth", tmp_path / "w.part")
    assert server.requests == [("http://files.example/w.pth", "")]


def test_a_file_that_cannot_be_written_is_not_kept(server: WeightsServer, tmp_path: Path) -> None:
    with full_disk(400_000), pytest.raises(OSError, match="File too large"):
        download(f"{server.address}/w.pth", tmp_path / "w.part")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes a certificate, is not installed")
    path = tmp_path / "loopback.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command = ["openssl", "req", "-x509", *key, "-days", "2", *subject, "-keyout", str(path)]
    subprocess.run([*command, "-out", str(tmp_path / "c.pem")], check=True, capture_output=True)
    path.write_text(path.read_text() + (tmp_path / "c.pem").read_text())
    return path


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", *transfer.CERTIFICATES])
def test_certificates_of_the_environment_are_trusted(
    certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    with serve(certificate) as server:
        server.files["/w.pth"] = DATA
        with pytest.raises(
            DownloadError, match=r"its certificate is not trusted .*; if it is your own, set REQUESTS_CA"
        ):
            download(f"{server.address}/w.pth", tmp_path / "w.part")
        monkeypatch.setenv(variable, str(tmp_path / "c.pem"))
        download(f"{server.address}/w.pth", tmp_path / "w.part")
        with serve() as plain:
            server.answers["/w.pth"] = [redirect_to(f"{plain.address}/w.pth")]
            with pytest.raises(DownloadError, match="without https"):
                download(f"{server.address}/w.pth", tmp_path / "other.part")
    assert (tmp_path / "w.part").read_bytes() == DATA


@pytest.mark.parametrize("variable", transfer.CERTIFICATES)
def test_a_folder_of_certificates_is_read_and_a_wrong_file_is_named(
    server: WeightsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    (tmp_path / "text.pem").write_text("nothing")
    for wrong in ("nowhere.pem", "text.pem"):
        monkeypatch.setenv(variable, str(tmp_path / wrong))
        with pytest.raises(DownloadError, match=rf"^{variable} is '.*{wrong}', which is no file of certificates \("):
            download(f"{server.address}/w.pth", tmp_path / "w.part")
    monkeypatch.setenv(variable, str(tmp_path))
    download(f"{server.address}/w.pth", tmp_path / "w.part")
