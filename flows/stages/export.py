"""Export: the training set of the latest curation run as a folder that a trainer reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb

from curation.export import manifest
from curation.export.card import write_card
from curation.export.folder import check_target
from curation.export.formats.layout import Layout
from curation.export.formats.registry import find_layout
from curation.export.formats.winnow import COLUMNS
from curation.export.settings import ExportSettings
from curation.export.splits import sql_split
from curation.export.write import Written, write_export
from flows.console import progress
from flows.export_figures import card_figures
from flows.lineage import Run, input_hash
from flows.policies import scored_line
from flows.report import StageReport
from flows.workspace import Workspace
from schemas.errors import ExportError
from schemas.wording import counted
from warehouse.lake import Lake

UPSTREAM = ("ingest", "score", "diagnose", "adjudicate", "curate")
_BATCH_ROWS = 20_000


def export(
    workspace: Workspace, *, target: Path | None = None, format: str = "winnow", flow_run_id: str | None = None
) -> StageReport:
    """Write the training set of the latest curation run.

    Args:
        workspace: where the lake is.
        target: folder that appears; ``exports/RUN-FORMAT`` in the workspace when absent.
        format: layout of the files.
        flow_run_id: identifier that the stages of one flow run share.

    Returns:
        Facts: export_id, path, format, num_pairs, num_train, num_test, curation_run_id.

    Raises:
        ExportError: nothing was curated, the format is unknown, or the target may not be replaced.
    """
    layout = find_layout(format)
    options = workspace.settings.export
    with workspace.lake() as lake:
        latest = _latest_run(lake)
        folder = (target or workspace.exports / f"{latest['content_id']}-{layout.name}").resolve()
        check_target(folder)
        settings = {"path": str(folder), "format": layout.name, **options.model_dump(mode="json")}
        hash_of_input = input_hash(lake, "export", settings, UPSTREAM)
        facts = _already_there(lake, hash_of_input, folder)
        if facts is not None:
            return StageReport("export", None, 0, facts, (f"Nothing new: {folder} holds this set already.",))
        run = Run.start("export", input_hash=hash_of_input, settings=settings, flow_run_id=flow_run_id)
        snapshot = lake.snapshot_id()
        written = _write(lake, folder, layout, options, latest)
        facts = _facts(written, folder, layout, latest)

        def record(con: duckdb.DuckDBPyConnection) -> None:
            con.execute(
                "insert into raw.exports by name select $1 as export_id, $2 as curation_run_id, $3 as snapshot_id,"
                " $4 as path, $5 as format, $6 as manifest_hash, $7 as num_pairs, $8 as run_id",
                [
                    written.export_id,
                    latest["run_id"],
                    snapshot,
                    str(folder),
                    layout.name,
                    written.manifest_hash,
                    facts["num_pairs"],
                    run.run_id,
                ],
            )
            run.record(con, num_changed=facts["num_pairs"], facts=facts)

        lake.transact(run.run_id, record)
        lines = (
            *_sentences(lake, facts, layout, options.test_share),
            *_same_decisions(latest),
            scored_line(lake, latest["reference_id"]),
        )
    return StageReport("export", run.run_id, facts["num_pairs"], facts, lines)


def _latest_run(lake: Lake) -> dict[str, Any]:
    rows = lake.frame("select * from raw.curation_runs order by run_number desc limit 1").to_dicts()
    if not rows:
        raise ExportError("nothing is curated yet", mend="winnow curate")
    return rows[0]


def _already_there(lake: Lake, hash_of_input: str, folder: Path) -> dict[str, Any] | None:
    """Facts of an earlier export with this input, if its folder still holds it."""
    rows = lake.con.execute(
        "select runs.facts, exports.manifest_hash from raw.runs as runs"
        " join raw.exports as exports on exports.run_id = runs.run_id where runs.input_hash = ?",
        [hash_of_input],
    ).fetchall()
    path = folder / manifest.FILE_NAME
    on_disk = manifest.sha256_of(path) if path.is_file() else None
    return next((dict(json.loads(facts)) for facts, written in rows if written == on_disk), None)


def _write(lake: Lake, folder: Path, layout: Layout, options: ExportSettings, latest: dict[str, Any]) -> Written:
    num_pairs = latest["num_pairs"] - latest["num_dropped"]
    provenance = _provenance(lake, options, latest)
    figures = card_figures(lake, latest)
    split = sql_split("prompt_group_id", test_share=options.test_share, seed=options.seed)
    query = f"select {', '.join(COLUMNS)}, {split} as split from mart.training_set order by prompt_group_id, pair_id"
    with progress("export", total=num_pairs, unit="pairs") as advance:
        return write_export(
            folder,
            lake.con.execute(query).to_arrow_reader(_BATCH_ROWS),
            layout=layout,
            provenance=provenance,
            shard_rows=options.shard_rows,
            card=lambda made, counts: write_card(made, counts, layout, provenance, figures),
            advance=lambda rows: advance(rows, ""),
        )


def _provenance(lake: Lake, options: ExportSettings, latest: dict[str, Any]) -> manifest.Provenance:
    counts = lake.con.execute("select source, count(*) from mart.training_set group by 1 order by 1").fetchall()
    sources = tuple(
        {"source": source, "licence": options.source_licences.get(source), "num_pairs": count}
        for source, count in counts
    )
    rules = {
        "name": latest["name"],
        "sha256": latest["rules_hash"],
        "objective": latest["objective"],
        "beta": latest["beta"],
    }
    splits = {"test_share": options.test_share, "seed": options.seed}
    reference = _reference(lake, latest["reference_id"])
    return manifest.Provenance(latest["content_id"], rules, reference, sources, options.licence, splits)


def _reference(lake: Lake, reference_id: str | None) -> dict[str, Any] | None:
    if reference_id is None:
        return None
    columns = (
        "reference_id, model, revision, adapter, weights_hash, tokenizer_hash, chat_template_hash,"
        " template, max_length, truncate"
    )
    identity = lake.frame(f"select {columns} from raw.reference_policies where reference_id = ?", [reference_id])
    engines = lake.frame(
        "select "
        + ", ".join(
            f"string_agg(distinct {name}, ', ' order by {name}) as {name}"
            for name in ("dtype", "engine", "engine_path", "engine_version")
        )
        + " from raw.reference_scores where reference_id = ?",
        [reference_id],
    )
    return {**identity.row(0, named=True), **engines.row(0, named=True)}


def _facts(written: Written, folder: Path, layout: Layout, latest: dict[str, Any]) -> dict[str, Any]:
    return {
        "export_id": written.export_id,
        "path": str(folder),
        "format": layout.name,
        "num_pairs": sum(written.counts.values()),
        "num_train": written.counts["train"],
        "num_test": written.counts["test"],
        "curation_run_id": latest["run_id"],
    }


def _sentences(lake: Lake, facts: dict[str, Any], layout: Layout, test_share: float) -> Sequence[str]:
    lines = [
        f"{counted(facts['num_train'], 'pair')} to train on and {facts['num_test']:,} held out in {facts['path']}."
    ]
    if not facts["num_test"] and test_share:
        lines.append(
            f"Warning: no pair is held out: export.test_share is {test_share:g}, and there are few groups of prompts;"
            " raise it to hold some out."
        )
    if not facts["num_train"]:
        lines.append("Warning: there is no pair to train on.")
    lost = _lost(lake, layout)
    if lost:
        lines.append(f"The {layout.name} format has no room for {', '.join(lost)}; they are left out.")
    return lines


def _same_decisions(latest: dict[str, Any]) -> list[str]:
    """Why the folder has another id than the run, where it has."""
    run, content = latest["run_id"], latest["content_id"]
    return [] if run == content else [f"{run} decides as {content} did, whose name the set has."]


def _lost(lake: Lake, layout: Layout) -> list[str]:
    """What this set has and the layout has no room for, in words."""
    if not layout.loses:
        return []
    row = lake.frame(
        """
        select
            count(*) filter (weight <> 1) as weight,
            count(soft_label) as soft_label,
            count(objective) as objective,
            count(reference_chosen_logps) as reference_logps,
            if(count(distinct criterion) > 1, count(*), 0) as criterion,
            if(count(distinct source) > 1, count(*), 0) as source
        from mart.training_set
        """
    ).row(0, named=True)
    words = {
        "weight": "weights",
        "soft_label": "soft labels",
        "objective": "routed objectives",
        "reference_logps": "reference log-probs",
        "criterion": "criteria",
        "source": "sources",
    }
    return [f"{words[what]} (of {counted(row[what], 'pair')})" for what in layout.loses if row[what]]
