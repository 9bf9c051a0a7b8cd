"""Ingest: source files into ``raw.prompts``, ``raw.responses``, ``raw.judgments`` and ``raw.quarantine``."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import duckdb

from curation.ingest.reading import fingerprint
from curation.ingest.settings import IngestSettings
from curation.ingest.sources import SourceFile
from curation.ingest.staging import FileTally, Staging
from flows.console import progress
from flows.lineage import Run, input_hash
from flows.report import StageReport
from flows.stages.ingest_earlier import EarlierVersion, earlier_versions, judgments_before
from flows.stages.ingest_files import (
    Advance,
    IngestOptions,
    annotator_key,
    check_share,
    num_kilobytes,
    read_file,
)
from flows.stages.ingest_folder import staging_folder
from flows.workspace import Workspace
from schemas.wording import counted
from warehouse.judgments import Inserted, insert_staged
from warehouse.lake import Lake, claim_write

_KINDS = ("judgments", "prompts", "responses", "quarantine")


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
    columns: Mapping[str, str] | None = None,
    hash_annotators: bool = False,
    max_quarantined_share: float | None = None,
    flow_run_id: str | None = None,
) -> StageReport:
    """Ingest files, folders, globs, URLs and Hub ids; what the lake has already is left alone.

    All files are staged and checked first and then written in one transaction, so a bad one leaves the lake as it
    was (beyond ``ingest.commit_bytes`` of input there are several transactions, each of whole files).

    Args:
        sources: what to ingest.
        format, source_name, columns, hash_annotators, max_quarantined_share: see :class:`IngestOptions`.

    Raises:
        SourceError: a file cannot be read, its format is unknown, or too many of its rows are bad.
    """
    options = IngestOptions(format, source_name, columns or {}, hash_annotators, max_quarantined_share)
    settings = workspace.settings.ingest
    key = annotator_key(workspace) if hash_annotators else None
    with (
        staging_folder(workspace.root) as folder,
        workspace.lake() as lake,
    ):
        found = options.sources(sources, folder)
        lake.con.execute("set memory_limit = ?", [settings.memory_limit])
        lake.con.execute("set temp_directory = ?", [str(folder / "lake-spill")])
        known = {row[0] for row in lake.con.execute("select fingerprint from raw.source_files").fetchall()}
        prints = [(each, fingerprint(each, settings, annotator_key=key)) for each in found]
        new = [(each, print_) for each, print_ in prints if print_ not in known]
        if not new:
            return _nothing_new(found)
        run = Run.start(
            "ingest",
            input_hash=input_hash(lake, "ingest", {"fingerprints": [print_ for _, print_ in new]}, []),
            settings={"sources": list(sources), **asdict(options), **settings.model_dump()},
            flow_run_id=flow_run_id,
        )
        return _Ingest(lake, settings, options, key, run, folder).go(new)


class _Ingest:
    """One run over files that the lake does not know yet."""

    def __init__(
        self, lake: Lake, settings: IngestSettings, options: IngestOptions, key: bytes | None, run: Run, folder: Path
    ) -> None:
        self.lake = lake
        self.settings = settings
        self.options = options
        self.key = key
        self.run = run
        self.folder = folder
        self.done: list[_ReadFile] = []
        self.inserted = Inserted()
        self.earlier: list[EarlierVersion] = []

    def go(self, new: Sequence[tuple[SourceFile, str]]) -> StageReport:
        with progress("ingest", total=sum(num_kilobytes(source) for source, _ in new), unit="kB") as advance:
            staging, pending, num_bytes = self._staging(), list[_ReadFile](), 0
            for number, (source, print_) in enumerate(new):
                pending.append(_ReadFile(source, print_, self._read(source, staging, advance)))
                num_bytes += source.path.stat().st_size
                is_last = number + 1 == len(new)
                if is_last or num_bytes > self.settings.commit_bytes:
                    advance(0, "writing to the lake")
                    if not self._write(staging, pending, is_finished=is_last):
                        return _nothing_new([source for source, _ in new])
                    shutil.rmtree(staging.folder)
                    staging, pending, num_bytes = self._staging(), [], 0
            advance(0, "")
        return self._report()

    def _staging(self) -> Staging:
        return Staging(self.folder / "staged")

    def _read(self, source: SourceFile, staging: Staging, advance: Advance) -> FileTally:
        """Stage one file; its rows are judged when it is read to its end."""
        tally = read_file(source, self.settings, key=self.key, folder=self.folder, advance=advance, use=staging.add)
        check_share(source, tally, self.options.allowed_share(source, self.settings))
        return tally

    def _write(self, staging: Staging, files: Sequence[_ReadFile], *, is_finished: bool) -> bool:
        """Insert what is staged; False where another process ingested the same files meanwhile, so that nothing is."""
        run, done = self.run, [*self.done, *files]
        paths = {kind: staging.files(kind) for kind in _KINDS}

        def work(con: duckdb.DuckDBPyConnection) -> tuple[Inserted, list[EarlierVersion]] | None:
            known = {row[0] for row in con.execute("select fingerprint from raw.source_files").fetchall()}
            if not self.done and all(file.fingerprint in known for file in files):
                return None
            claim_write(con)
            before = judgments_before(con, [file.source.source for file in files])
            inserted = insert_staged(con, paths, run.run_id)
            earlier = earlier_versions(con, before, run.run_id, {f.source.source: f.tally.num_judgments for f in files})
            con.executemany(
                "insert into raw.source_files values (?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        file.fingerprint,
                        file.source.source,
                        file.source.format.name,
                        file.tally.num_rows,
                        file.tally.num_judgments,
                        file.tally.num_bad_rows,
                        run.run_id,
                    )
                    for file in files
                    if file.fingerprint not in known
                ],
            )
            total = _added(self.inserted, inserted)
            facts = _facts(total, done, [*self.earlier, *earlier])
            run.record(con, num_changed=total.total, facts=facts, is_finished=is_finished)
            return total, earlier

        written = self.lake.transact(f"winnow ingest {run.run_id}", work)
        if written is None:
            return False
        self.inserted, earlier = written
        self.earlier += earlier
        self.done = done
        return True

    def _report(self) -> StageReport:
        facts = _facts(self.inserted, self.done, self.earlier)
        formats = ", ".join(f"{file.source} as {file.source.format.name}" for file in self.done[:4])
        more = f" and {len(self.done) - 4} more files" if len(self.done) > 4 else ""
        lines = [
            f"{formats}{more}",
            f"{counted(facts['num_judgments'], 'judgment')} on {counted(facts['num_responses'], 'response')} to"
            f" {counted(facts['num_prompts'], 'prompt')} are new, of {counted(facts['num_rows'], 'row')}",
        ]
        if facts["num_bad_rows"]:
            reasons = ", ".join(f"{reason} {count:,}" for reason, count in facts["reasons"].items())
            lines.append(f"{counted(facts['num_bad_rows'], 'row')} in raw.quarantine: {reasons}")
        lines += [each.line for each in self.earlier]
        return StageReport("ingest", self.run.run_id, self.inserted.total, facts, tuple(lines))


def _nothing_new(found: Sequence[SourceFile]) -> StageReport:
    names = ", ".join(str(each) for each in found[:4]) + (" ..." if len(found) > 4 else "")
    return StageReport("ingest", None, 0, {"num_files": len(found)}, (f"nothing new in {names}",))


def _facts(inserted: Inserted, done: Sequence[_ReadFile], earlier: Sequence[EarlierVersion]) -> dict[str, Any]:
    reasons: Counter[str] = Counter()
    for each in done:
        reasons.update(each.tally.reasons)
    return {
        **{f"num_{kind}": count for kind, count in asdict(inserted).items()},
        "num_rows": sum(each.tally.num_rows for each in done),
        "num_bad_rows": sum(each.tally.num_bad_rows for each in done),
        "num_files": len(done),
        "formats": sorted({each.source.format.name for each in done}),
        "reasons": dict(reasons.most_common()),
        "earlier": [asdict(each) for each in earlier],
    }


def _added(a: Inserted, b: Inserted) -> Inserted:
    return Inserted(*(x + y for x, y in zip(asdict(a).values(), asdict(b).values(), strict=True)))
