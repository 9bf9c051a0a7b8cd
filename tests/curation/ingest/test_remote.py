"""URLs: a real web server, with and without TLS, and a real S3 server, all on 127.0.0.1."""

from __future__ import annotations

import gzip
import json
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from curation.ingest.reading import read_source
from curation.ingest.settings import IngestSettings
from curation.ingest.sources import find_sources
from flows.workspace import Workspace
from schemas.errors import SourceError
from tests.flows.winnow_process import winnow

pytestmark = pytest.mark.server

ROWS = [{"prompt": f"Q{i}?", "chosen": f"Yes, {i}.", "rejected": f"No, {i}."} for i in range(30)]
LINES = b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)


class _Quiet(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.startswith("/forbidden"):
            self.send_error(403)
        else:
            super().do_GET()

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@contextmanager
def serving(folder: Path, context: ssl.SSLContext | None = None) -> Iterator[str]:
    """A web server of a folder; its ``HOST:PORT``."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "web"
    folder.mkdir()
    (folder / "pairs.jsonl").write_bytes(LINES)
    (folder / "Überblick (1).jsonl.gz").write_bytes(gzip.compress(LINES))
    (folder / "cut.jsonl.gz").write_bytes(gzip.compress(LINES)[:-20])
    (folder / "page.html").write_text("<html>Sign in</html>")
    with serving(folder) as host:
        yield f"http://{host}"


def found(url: str, folder: Path) -> list[tuple[str, str, int]]:
    """Source, name for messages and number of judgments of each file of a URL."""
    return [
        (each.source, str(each), sum(batch.judgments.num_rows for batch, _ in read_source(each, IngestSettings())))
        for each in find_sources([url], fetch_folder=folder)
    ]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("pairs.jsonl", "pairs"),
        ("pairs.jsonl?download=true", "pairs"),
        ("%C3%9Cberblick%20(1).jsonl.gz", "Überblick (1)"),
    ],
)
def test_a_file_of_a_web_server(web: str, tmp_path: Path, path: str, source: str) -> None:
    assert found(f"{web}/{path}", tmp_path / "fetched") == [(source, f"{web}/{path}", 30)]


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("nothing.jsonl", "cannot be read: the server says 404 File not found"),
        ("forbidden.jsonl", "cannot be read: the server says 403 Forbidden"),
        ("page.html", "none of its first rows is a JSON object"),
        ("cut.jsonl.gz", "is a corrupt gzip file"),
    ],
)
def test_what_a_web_server_refuses_or_garbles_is_one_error_that_names_the_url(
    web: str, tmp_path: Path, path: str, says: str
) -> None:
    with pytest.raises(SourceError, match=says) as raised:
        found(f"{web}/{path}", tmp_path / "fetched")
    assert raised.value.message.startswith(f"{web}/{path}")
    assert raised.value.mend
    assert str(tmp_path) not in raised.value.message


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    with serving(tmp_path) as host:
        pass
    with pytest.raises(SourceError, match=f"http://{host}/pairs.jsonl cannot be read: .*Connect call failed"):
        found(f"http://{host}/pairs.jsonl", tmp_path / "fetched")


def test_https_is_read_where_the_certificate_is_trusted_and_only_there(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_bytes(LINES)
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    make = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=winnow -addext subjectAltName=IP:127.0.0.1"
    command = [*make.split(), "-out", str(certificate), "-keyout", str(key)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    workspace = Workspace.create(tmp_path / "workspace").root
    with serving(tmp_path, context) as host:
        command = ["ingest", "-w", str(workspace), f"https://{host}/pairs.jsonl"]
        refused = winnow(*command)
        assert refused.returncode == 2
        assert "error: https://127.0.0.1" in refused.stderr
        assert "certificate" in refused.stderr
        read = winnow(*command, env={"SSL_CERT_FILE": str(certificate)})
    assert (read.returncode, "30 judgments" in read.stdout) == (0, True), read.stderr


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A bucket of an S3 server in a process of its own, and the environment that leads to it."""
    serve = (
        "import sys; from moto.server import ThreadedMotoServer\n"
        "server = ThreadedMotoServer(ip_address='127.0.0.1', port=0, verbose=False); server.start()\n"
        "print(server.get_host_and_port()[1], flush=True); sys.stdin.read(); server.stop()"
    )
    process = subprocess.Popen([sys.executable, "-c", serve], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{int(process.stdout.readline())}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    import boto3
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    client.create_bucket(Bucket="judgments")
    try:
        yield partial(client.put_object, Bucket="judgments")
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


def test_files_globs_and_folders_of_s3(bucket: Any, tmp_path: Path) -> None:
    bucket(Key="set/one.jsonl.gz", Body=gzip.compress(LINES))
    pl.DataFrame(ROWS).write_parquet(tmp_path / "two.parquet")
    bucket(Key="set/deep/two.parquet", Body=(tmp_path / "two.parquet").read_bytes())
    bucket(Key="set/README.md", Body=b"About this set")
    one = "s3://judgments/set/one.jsonl.gz"
    assert found(one, tmp_path / "file") == [("one", one, 30)]
    assert found("s3://judgments/set/*.gz", tmp_path / "glob") == [("one", one, 30)]
    two = "s3://judgments/set/deep/two.parquet"
    for number, url in enumerate(("s3://judgments/set", "s3://judgments/set/")):
        expected = [("set/deep/two", two, 30), ("set/one", one, 30)]
        assert found(url, tmp_path / f"folder-{number}") == expected


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("s3://judgments/nothing.jsonl", "nothing.jsonl cannot be read: it does not exist"),
        ("s3://nowhere/pairs.jsonl", "cannot be read"),
        ("s3://judgments/*.csv", "no file matches"),
        ("s3://judgments/papers", "papers holds no data file"),
    ],
)
def test_what_is_not_in_s3_is_one_error(bucket: Any, tmp_path: Path, url: str, says: str) -> None:
    bucket(Key="papers/README.md", Body=b"About these papers")
    with pytest.raises(SourceError, match=says) as raised:
        found(url, tmp_path / "fetched")
    assert raised.value.mend


def test_s3_without_credentials_or_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs

    with serving(tmp_path) as host:
        pass
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(SourceError, match=r"s3://judgments/pairs\.jsonl cannot be read") as raised:
        found("s3://judgments/pairs.jsonl", tmp_path / "fetched")
    assert "AWS_ACCESS_KEY_ID" in str(raised.value.mend)
