"""URLs through ``fsspec``: one file, a glob, or a folder is copied to local files, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from curation.ingest.containers import SUFFIXES, is_data_file
from curation.ingest.fetching import first_line
from schemas.errors import SourceError

_WEB = ("http://", "https://")
_MAGIC = "*?["
_CHUNK_BYTES = 1 << 20

Copied = Callable[[int], None]
"""What is told of bytes that were copied."""


def is_url(source: str) -> bool:
    """Whether a source is read through ``fsspec``."""
    return "://" in source and not source.startswith("hf://datasets/")


@dataclass(frozen=True)
class Remote:
    """A URL as local files.

    Attributes:
        urls: local path and URL of each file.
        folder: where they lie as they do there, under its name; None where the URL is that of files.
    """

    urls: dict[Path, str]
    folder: Path | None = None


def fetch_url(url: str, folder: Path, copied: Copied) -> Remote:
    """Copy the files of a URL, which may be a glob or a folder where its file system has them (``s3://``).

    Args:
        copied: told of bytes.

    Raises:
        SourceError: it is not there, cannot be read, or its file system is not installed.
    """
    import aiohttp
    from botocore.exceptions import BotoCoreError

    try:
        remote = _fetch_web(url, folder, copied) if url.startswith(_WEB) else _fetch_store(url, folder, copied)
    except (OSError, ValueError, ImportError, aiohttp.ClientError, BotoCoreError) as error:
        raise SourceError(f"{url} cannot be read: {_said(error)}", mend=_mend(url, error)) from error
    if not remote.urls and remote.folder is not None:
        raise SourceError(f"{url} holds no data file", mend=f"give a folder with {', '.join(SUFFIXES)} files")
    if not remote.urls:
        raise SourceError(f"no file matches {url}", mend="check the URL")
    return remote


def _fetch_web(url: str, folder: Path, copied: Copied) -> Remote:
    """One file in one request, which may take as long as it goes on."""
    import aiohttp
    import fsspec

    timeout = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)
    files = fsspec.filesystem(urlsplit(url).scheme, client_kwargs={"timeout": timeout})
    name = PurePosixPath(unquote(urlsplit(url).path)).name or "data"
    with files.open(url, "rb", block_size=0) as stream:
        return Remote({_copy(stream, folder / name, copied): url})


def _fetch_store(url: str, folder: Path, copied: Copied) -> Remote:
    import fsspec

    files, path = fsspec.url_to_fs(url)
    is_glob = any(character in path for character in _MAGIC)
    top = None
    if is_glob:
        names = [each for each in sorted(files.glob(path)) if files.isfile(each)]
        found = {each: Path(str(number), PurePosixPath(each).name) for number, each in enumerate(names)}
    elif files.isdir(path):
        top = folder / PurePosixPath(path).name
        inside = {each: PurePosixPath(each).relative_to(path.rstrip("/")) for each in sorted(files.find(path))}
        found = {each: Path(top.name, relative) for each, relative in inside.items() if is_data_file(Path(relative))}
    else:
        found = {path: Path(PurePosixPath(path).name)}
    copies = {}
    for each, relative in found.items():
        if ".." in relative.parts:
            raise ValueError(f"the key {each} leads out of its folder")
        with files.open(each, "rb") as stream:
            copies[_copy(stream, folder / relative, copied)] = url if each == path else files.unstrip_protocol(each)
    return Remote(copies, top)


def _copy(stream: BinaryIO, target: Path, copied: Copied) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as copy:
        while chunk := stream.read(_CHUNK_BYTES):
            copied(copy.write(chunk))
    return target


def _said(error: BaseException) -> str:
    """What is wrong; ``fsspec`` says of whatever befalls a web server's file that it is not found, and why below it."""
    from aiohttp import ClientResponseError

    if isinstance(error, ClientResponseError):
        return f"the server says {error.status} {error.message}"
    if not isinstance(error, FileNotFoundError):
        return first_line(error)
    return "it does not exist" if error.__cause__ is None else _said(error.__cause__)


def _mend(url: str, error: Exception) -> str:
    if isinstance(error, ImportError):
        return "install what it names"
    if url.startswith("s3://"):
        return "check the URL, and the credentials and endpoint (AWS_ACCESS_KEY_ID, AWS_PROFILE, AWS_ENDPOINT_URL)"
    return "check the URL and the access"
