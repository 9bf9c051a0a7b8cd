"""Open a file as bytes, whatever compresses it, and count how far reading has come."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa

from schemas.errors import SourceError

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


@contextmanager
def opened(path: Path) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """Open a plain, gzip or zstd file, told apart by its first bytes.

    Yields:
        The decompressed stream, and the file below it, whose ``tell()`` is how far reading has come.

    Raises:
        SourceError: the file is missing, cannot be read, or its compression is corrupt.
    """
    is_zstd = False
    try:
        with path.open("rb") as file:
            head = file.read(4)
            file.seek(0)
            if head.startswith(_GZIP):
                with gzip.GzipFile(fileobj=file) as stream:
                    yield cast(BinaryIO, stream), file
            elif head == _ZSTD:
                is_zstd = True
                with pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd") as frames:
                    yield cast(BinaryIO, frames), file
            else:
                yield file, file
    except FileNotFoundError as error:
        raise SourceError(f"{path} does not exist", mend="check the path") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise SourceError(f"{path} is a corrupt gzip file: {error}", mend="download or write it again") from error
    except OSError as error:
        if is_zstd:
            raise SourceError(f"{path} is a corrupt zstd file: {error}", mend="download or write it again") from error
        raise SourceError(f"{path} cannot be read: {error}", mend="check the path and its permissions") from error


def content_hash(path: Path) -> str:
    """SHA-256 of the file's bytes as they lie there.

    Raises:
        SourceError: the file is missing or cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error}", mend="check the path and its permissions") from error


def copy_decompressed(path: Path, folder: Path) -> Path:
    """Decompress a file whose format needs to be sought in; the copy's path.

    Raises:
        SourceError: as :func:`opened`.
    """
    target = folder / "decompressed"
    with opened(path) as (stream, _), target.open("wb") as copy:
        shutil.copyfileobj(stream, copy, 1 << 20)
    return target
