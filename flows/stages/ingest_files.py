"""What ingest and its dry run share: find the sources, read a file with a progress bar, and judge its bad rows."""

from __future__ import annotations

import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from curation.ingest.mapping import Mapping as MappingFile
from curation.ingest.parser import ParsedBatch
from curation.ingest.reading import read_source
from curation.ingest.remote import is_url
from curation.ingest.settings import IngestSettings
from curation.ingest.sources import SourceFile, find_sources
from curation.ingest.staging import FileTally
from flows.console import progress
from flows.workspace import Workspace
from schemas.errors import EmptySourceError, SourceError, WorkspaceError
from schemas.wording import counted

KILOBYTE = 1 << 10
Advance = Callable[[int, str], None]


@dataclass(frozen=True)
class IngestOptions:
    """What ``winnow ingest`` can be told for one run.

    Attributes:
        format: name of a format or path of a mapping file; detected for each file where absent.
        source_name: name in the lake; by default the file's or folder's name without suffixes.
        columns: column of the long form -> path in the row, where it differs from the format's.
        hash_annotators: replace annotator ids by hashes with the workspace's key.
        max_quarantined_share: that of the mapping file or of ``winnow.toml`` where absent.
    """

    format: str | None = None
    source_name: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    hash_annotators: bool = False
    max_quarantined_share: float | None = None

    def sources(self, sources: Sequence[str], folder: Path) -> list[SourceFile]:
        """The files of the sources; what is not local is copied into ``folder``."""
        with _fetching(sources) as copied:
            return find_sources(
                sources,
                fetch_folder=folder / "fetched",
                format_name=self.format,
                source_name=self.source_name,
                columns=self.columns,
                copied=copied,
            )

    def allowed_share(self, source: SourceFile, settings: IngestSettings) -> float:
        """Share of a file's rows that may fail."""
        if self.max_quarantined_share is not None:
            return self.max_quarantined_share
        share = source.format.max_quarantined_share if isinstance(source.format, MappingFile) else None
        return settings.max_quarantined_share if share is None else share


@contextmanager
def _fetching(sources: Sequence[str]) -> Iterator[Callable[[int], None]]:
    """What is told of bytes that were copied: a progress bar with rate, where there is a URL."""
    if not any(map(is_url, sources)):
        yield lambda num_bytes: None
        return
    with progress("fetch", unit="kB") as advance:
        num_copied, started = 0, time.monotonic()

        def copied(num_bytes: int) -> None:
            nonlocal num_copied
            before, num_copied = num_copied, num_copied + num_bytes
            rate = num_copied / KILOBYTE / max(time.monotonic() - started, 1e-3)
            advance(num_copied // KILOBYTE - before // KILOBYTE, f"{rate:,.0f} kB/s")

        yield copied


def read_file(
    source: SourceFile,
    settings: IngestSettings,
    *,
    key: bytes | None,
    folder: Path,
    advance: Advance,
    use: Callable[[ParsedBatch], None],
) -> FileTally:
    """Read one file to its end.

    Args:
        key: where given, annotator ids become keyed hashes.
        folder: where DuckDB may spill.
        advance: told of kilobytes read.
        use: called with every batch.
    """
    tally = FileTally()
    kilobytes = read_bytes = 0
    started = time.monotonic()
    for batch, num_bytes in read_source(source, settings, annotator_key=key, temporary_directory=str(folder / "spill")):
        use(batch)
        tally.add(batch)
        read_bytes += num_bytes
        rate = tally.num_rows / max(time.monotonic() - started, 1e-3)
        advance(read_bytes // KILOBYTE - kilobytes, f"{source.source}: {counted(tally.num_rows, 'row')}, {rate:,.0f}/s")
        kilobytes = read_bytes // KILOBYTE
    advance(num_kilobytes(source) - kilobytes, f"{source.source}: {counted(tally.num_rows, 'row')}")
    return tally


def num_kilobytes(source: SourceFile) -> int:
    """Size of a file."""
    return source.path.stat().st_size // KILOBYTE


def check_share(source: SourceFile, tally: FileTally, most: float) -> None:
    """Refuse a file that is empty, or of which too much is bad.

    Raises:
        SourceError: it has no row, or the share of rows that failed is above ``most``.
    """
    if tally.num_rows == 0:
        raise EmptySourceError(f"{source} is empty", mend="give a file with rows")
    if tally.failed_share > most:
        raise SourceError(
            f"{source}: {tally.num_failed_rows:,} of {counted(tally.num_rows, 'row')} are bad as {source.format.name}"
            f" ({tally.failed_share:.1%}, allowed {most:.1%}): {tally.commonest()}",
            mend="mend the file, name its format with --format, or raise --max-quarantined-share",
        )


def annotator_key(workspace: Workspace) -> bytes:
    """The workspace's secret for hashing annotator ids; made, readable by its owner alone, where there is none.

    Raises:
        WorkspaceError: the file is not a key.
    """
    path = workspace.root / "annotator.key"
    if not path.exists():
        descriptor, new = tempfile.mkstemp(dir=workspace.root, prefix=".annotator-key-")
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32) + "\n")
        with suppress(FileExistsError):  # another process made one meanwhile: that one stands
            os.link(new, path)
        Path(new).unlink()
    return existing_key(workspace)


def existing_key(workspace: Workspace) -> bytes:
    """The workspace's secret for hashing annotator ids, which must be there.

    Raises:
        WorkspaceError: the file is not a key.
    """
    path = workspace.root / "annotator.key"
    try:
        return bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError) as error:
        raise WorkspaceError(f"{path} is no key: {error}", mend="put the key back from a backup") from error
