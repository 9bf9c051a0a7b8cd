"""Ingest: source files into ``raw.prompts``, ``raw.responses``, ``raw.judgments`` and ``raw.quarantine``."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import duckdb

from curation.ingest.mapping import Mapping
from curation.ingest.reading import fingerprint, read_source
from curation.ingest.settings import IngestSettings
from curation.ingest.sources import SourceFile, find_sources
from curation.ingest.staging import FileTally, Staging
from flows.console import progress
from flows.lineage import Run, input_hash
from flows.report import StageReport
from flows.workspace import Workspace
from schemas.errors import SourceError
from warehouse.judgments import Inserted, insert_staged
from warehouse.lake import Lake

_KINDS = ("judgments", "prompts", "responses", "quarantine")
_KILOBYTE = 1 << 10


@dataclass(frozen=True)
class _ReadFile:
    source: SourceFile
    fingerprint: str
    tally: FileTally


def ingest(
    workspace: Workspace,
    sources: Sequence[str],
    *,
    format: str | None = None,
    source_name: str | None = None,
    hash_annotators: bool = False,
    flow_run_id: str | None = None,
) -> StageReport:
    """Ingest files, folders and globs; what the lake has already is left alone.

    All files are staged and checked first and then written in one transaction, so a bad one leaves the lake as it
    was (beyond ``ingest.commit_bytes`` of input there are several transactions, each of whole files).

    Args:
        sources: what to ingest.
        format: name of a format or path of a mapping file; detected for each file where absent.
        source_name: name in the lake; by default the file's or folder's name without suffixes.
        hash_annotators: replace annotator ids by hashes with the workspace's key.

    Raises:
        SourceError: a file cannot be read, its format is unknown, or too many of its rows are bad.
    """
    settings = workspace.settings.ingest
    found = find_sources(sources, format_name=format, source_name=source_name)
    key = annotator_key(workspace) if hash_annotators else None
    with workspace.lake() as lake:
        lake.con.execute("set memory_limit = ?", [settings.memory_limit])
        known = {row[0] for row in lake.con.execute("select fingerprint from raw.source_files").fetchall()}
        prints = [(each, fingerprint(each, settings, annotator_key=key)) for each in found]
        new = [(each, print_) for each, print_ in prints if print_ not in known]
        if not new:
            return _nothing_new(found)
        run = Run.start(
            "ingest",
            input_hash=input_hash(lake, "ingest", {"fingerprints": [p for _, p in new]}, []),
            settings={"sources": list(sources), "format": format, **settings.model_dump()},
            flow_run_id=flow_run_id,
        )
        return _Ingest(workspace, lake, settings, key, run).go(new)


class _Ingest:
    """One run over files that the lake does not know yet."""

    def __init__(self, workspace: Workspace, lake: Lake, settings: IngestSettings, key: bytes | None, run: Run) -> None:
        self.workspace = workspace
        self.lake = lake
        self.settings = settings
        self.key = key
        self.run = run
        self.done: list[_ReadFile] = []
        self.inserted = Inserted()

    def go(self, new: Sequence[tuple[SourceFile, str]]) -> StageReport:
        total = sum(_kilobytes(source) for source, _ in new)
        with (
            tempfile.TemporaryDirectory(prefix=".ingest-", dir=self.workspace.root) as folder,
            progress("ingest", total=total, unit="kB") as advance,
        ):
            staging, pending, num_bytes = self._staging(folder), list[_ReadFile](), 0
            for number, (source, print_) in enumerate(new):
                tally = self._read(source, staging, folder, advance)
                pending.append(_ReadFile(source, print_, tally))
                num_bytes += source.path.stat().st_size
                is_last = number + 1 == len(new)
                if is_last or num_bytes > self.settings.commit_bytes:
                    self._write(staging, pending, is_finished=is_last)
                    shutil.rmtree(staging.folder)
                    staging, pending, num_bytes = self._staging(folder), [], 0
        return self._report()

    def _staging(self, folder: str) -> Staging:
        return Staging(Path(folder) / "staged")

    def _read(
        self, source: SourceFile, staging: Staging, folder: str, advance: Callable[[int, str], None]
    ) -> FileTally:
        """Stage one file; its rows are checked against ``max_quarantined_share`` when it is read to its end."""
        tally = FileTally()
        kilobytes = read_bytes = 0
        started = time.monotonic()
        for batch, num_bytes in read_source(
            source, self.settings, annotator_key=self.key, temporary_directory=f"{folder}/spill"
        ):
            staging.add(batch)
            tally.add(batch)
            read_bytes += num_bytes
            rate = tally.num_rows / max(time.monotonic() - started, 1e-3)
            advance(read_bytes // _KILOBYTE - kilobytes, f"{source.source}: {tally.num_rows:,} rows, {rate:,.0f}/s")
            kilobytes = read_bytes // _KILOBYTE
        advance(_kilobytes(source) - kilobytes, f"{source.source}: {tally.num_rows:,} rows")
        check_share(source, tally, allowed_share(source, self.settings))
        return tally

    def _write(self, staging: Staging, files: Sequence[_ReadFile], *, is_finished: bool) -> None:
        run, done = self.run, [*self.done, *files]
        paths = {kind: staging.files(kind) for kind in _KINDS}

        def work(con: duckdb.DuckDBPyConnection) -> Inserted:
            inserted = insert_staged(con, paths, run.run_id)
            rows = [
                (f.fingerprint, f.source.source, f.source.format.name, f.tally.num_rows, f.tally.num_judgments,
                 f.tally.num_bad_rows, run.run_id)
                for f in files
            ]  # fmt: skip
            con.executemany("insert into raw.source_files values (?, ?, ?, ?, ?, ?, ?)", rows)
            total = _added(self.inserted, inserted)
            run.record(con, num_changed=total.total, facts=_facts(total, done), is_finished=is_finished)
            return total

        self.inserted = self.lake.transact(f"winnow ingest {run.run_id}", work)
        self.done = done

    def _report(self) -> StageReport:
        facts = _facts(self.inserted, self.done)
        formats = ", ".join(f"{f.source.path} as {f.source.format.name}" for f in self.done[:4])
        more = f" and {len(self.done) - 4} more files" if len(self.done) > 4 else ""
        lines = [
            f"{formats}{more}",
            f"{facts['num_judgments']:,} judgments on {facts['num_responses']:,} responses to"
            f" {facts['num_prompts']:,} prompts are new, of {facts['num_rows']:,} rows",
        ]
        if facts["num_bad_rows"]:
            reasons = ", ".join(f"{reason} {count:,}" for reason, count in facts["reasons"].items())
            lines.append(f"{facts['num_bad_rows']:,} rows in raw.quarantine: {reasons}")
        return StageReport("ingest", self.run.run_id, self.inserted.total, facts, tuple(lines))


def allowed_share(source: SourceFile, settings: IngestSettings) -> float:
    """Share of a file's rows that may fail: the mapping file's, else the workspace's."""
    share = source.format.max_quarantined_share if isinstance(source.format, Mapping) else None
    return settings.max_quarantined_share if share is None else share


def check_share(source: SourceFile, tally: FileTally, most: float) -> None:
    """Refuse a file of which too much is bad.

    Raises:
        SourceError: the share of bad rows is above ``most``.
    """
    if tally.failed_share > most:
        raise SourceError(
            f"{source.path}: {tally.num_failed_rows:,} of {tally.num_rows:,} rows are bad as {source.format.name}"
            f" ({tally.failed_share:.1%}, allowed {most:.1%}): {tally.commonest()}",
            mend="mend the file, name its format with --format, or raise ingest.max_quarantined_share in winnow.toml",
        )


def annotator_key(workspace: Workspace) -> bytes:
    """The workspace's secret for hashing annotator ids; made, readable by its owner alone, where there is none."""
    path = workspace.root / "annotator.key"
    if not path.exists():
        import secrets

        path.touch(mode=0o600, exist_ok=False)
        path.write_text(secrets.token_hex(32) + "\n", encoding="ascii")
    return bytes.fromhex(path.read_text(encoding="ascii").strip())


def _nothing_new(found: Sequence[SourceFile]) -> StageReport:
    names = ", ".join(str(each.path) for each in found[:4]) + (" ..." if len(found) > 4 else "")
    return StageReport("ingest", None, 0, {"num_files": len(found)}, (f"nothing new in {names}",))


def _facts(inserted: Inserted, done: Sequence[_ReadFile]) -> dict[str, Any]:
    reasons: dict[str, int] = {}
    for each in done:
        for reason, count in each.tally.reasons.items():
            reasons[reason] = reasons.get(reason, 0) + count
    return {
        **{f"num_{kind}": count for kind, count in asdict(inserted).items()},
        "num_rows": sum(each.tally.num_rows for each in done),
        "num_bad_rows": sum(each.tally.num_bad_rows for each in done),
        "num_files": len(done),
        "formats": sorted({each.source.format.name for each in done}),
        "reasons": dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0]))),
    }


def _added(a: Inserted, b: Inserted) -> Inserted:
    return Inserted(*(x + y for x, y in zip(asdict(a).values(), asdict(b).values(), strict=True)))


def _kilobytes(source: SourceFile) -> int:
    return source.path.stat().st_size // _KILOBYTE
