"""The generated world as a folder: what people hand in, and beside it the truth."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from curation.synthetic.corpus import policy_corpus
from curation.synthetic.world import World
from schemas.errors import SourceError

JUDGMENTS = "judgments.jsonl"
CORPUS = "policy_corpus.jsonl"
TRUTH = "truth"
MANIFEST = "manifest.json"

_ROWS_AT_ONCE = 200_000


def write_world(
    made: World, folder: Path, *, num_documents: int, advance: Callable[[int], None] | None = None
) -> dict[str, Any]:
    """Write the judgments in long form, the truth, the reference policy's corpus and a manifest.

    Args:
        made: a world with text.
        folder: made if need be; files of another world in it are replaced.
        num_documents: size of the policy's corpus.
        advance: called with the number of judgments written since the last call.

    Returns:
        The manifest: seed, settings, counts, and counts of what is planted.

    Raises:
        SourceError: the folder is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise SourceError(f"{folder} is a file, not a folder", mend="give a folder for the generated world")
    (folder / TRUTH).mkdir(parents=True, exist_ok=True)
    _write_judgments(made, folder / JUDGMENTS, advance)
    policy_corpus(made.seed, num_documents, settings=made.settings).write_ndjson(folder / CORPUS)
    for name, frame in truth_frames(made).items():
        frame.write_parquet(folder / TRUTH / f"{name}.parquet")
    manifest = {
        "format": "winnow-world",
        "version": 1,
        "seed": made.seed,
        "settings": made.settings.model_dump(),
        "counts": {
            "prompts": made.prompts.height,
            "responses": made.responses.height,
            "pairs": made.pairs.height,
            "annotators": made.annotators.height,
            "judgments": made.judgments.height,
            "corpus_documents": num_documents,
        },
        "planted": planted_counts(made),
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return manifest


def truth_frames(made: World) -> dict[str, pl.DataFrame]:
    """The truth without the texts: prompts, responses, pairs, annotators, and the cause of every judgment by row."""
    return {
        "prompts": made.prompts.drop("text"),
        "responses": made.responses.drop("text"),
        "pairs": made.pairs,
        "annotators": made.annotators,
        "judgments": made.judgments.with_row_index("source_row"),
    }


def planted_counts(made: World) -> dict[str, int]:
    """Pairs of each planted kind, and annotators of each kind."""
    flags = [name for name, dtype in made.pairs.schema.items() if dtype == pl.Boolean]
    counts = made.pairs.select(
        *(pl.col(name).sum() for name in flags),
        pl.col("opposes_pair_id").count().alias("has_opposing_near_duplicate"),
    ).row(0, named=True)
    kinds = dict(made.annotators["kind"].value_counts().sort("kind").iter_rows())
    return {**counts, **{f"annotators_{kind}": count for kind, count in kinds.items()}}


def _write_judgments(made: World, path: Path, advance: Callable[[int], None] | None) -> None:
    prompts = made.prompts.select("prompt_id", prompt="text")
    responses = made.responses.select("response_id", "text")
    with path.open("wb") as file:
        for chunk in made.judgments.iter_slices(_ROWS_AT_ONCE):
            chunk.join(prompts, on="prompt_id", maintain_order="left").join(
                responses, left_on="response_a_id", right_on="response_id", maintain_order="left"
            ).join(
                responses, left_on="response_b_id", right_on="response_id", maintain_order="left", suffix="_b"
            ).select(
                "prompt",
                pl.col("text").alias("response_a"),
                pl.col("text_b").alias("response_b"),
                "vote",
                "annotator_id",
                "criterion",
                pl.col("annotated_at").dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "batch",
            ).write_ndjson(file)
            if advance is not None:
                advance(chunk.height)
