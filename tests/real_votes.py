"""Votes of the real sets as judgments frames, read straight from the files."""

from __future__ import annotations

import polars as pl

from tests.real_data import shared

SETS = ("ukpconvarg1", "cragc25", "llmfao")


def judgments(name: str) -> pl.DataFrame:
    """Judgments of one of ``SETS`` with the columns that the annotator model reads, ``prompt_id`` and ``gold``."""
    frame = {"ukpconvarg1": _ukpconvarg1, "cragc25": _cragc25, "llmfao": _llmfao}[name]()
    return frame.with_columns(
        pair_id=pl.concat_str(
            pl.min_horizontal("response_a_id", "response_b_id"),
            pl.lit(" "),
            pl.max_horizontal("response_a_id", "response_b_id"),
        ),
        is_display_order_known=pl.lit(True),
        source=pl.lit(name),
    )


def _ukpconvarg1() -> pl.DataFrame:
    pairs = pl.read_ndjson(shared("data/ukpconvarg1/pairs.jsonl.gz"), infer_schema_length=None)
    votes = pl.read_ndjson(shared("data/ukpconvarg1/votes.jsonl.gz"))
    joined = votes.join(pairs, on="pair_id", maintain_order="left")
    return joined.select(
        prompt_id="topic",
        response_a_id=pl.col("topic") + "/" + pl.col("a_id"),
        response_b_id=pl.col("topic") + "/" + pl.col("b_id"),
        vote="vote",
        annotator_id="annotator_id",
    )


def _cragc25() -> pl.DataFrame:
    files = ("data/cragc25/votes.jsonl.gz", "data/cragc25/llm_votes.jsonl.gz")
    votes = pl.concat([pl.read_ndjson(shared(file)).select(_CRAGC25) for file in files])
    return votes.select(
        prompt_id="query_id",
        response_a_id=pl.col("query_id") + "/" + pl.col("a_id"),
        response_b_id=pl.col("query_id") + "/" + pl.col("b_id"),
        vote="quality_overall",
        annotator_id="annotator_id",
    ).filter(pl.col("vote").is_in(["a", "b", "tie"]))


_CRAGC25 = ("query_id", "a_id", "b_id", "annotator_id", "quality_overall")


def _llmfao() -> pl.DataFrame:
    columns = ("prompt", "left", "right", "winner", "worker")
    human = pl.read_csv(shared("data/llmfao/crowd-comparisons.csv")).with_columns(
        pl.format("worker-{}", "worker").alias("worker")
    )
    frames = [human.select(columns)]
    for name in ("gpt3", "gpt4"):
        judged = pl.read_csv(shared(f"data/llmfao/{name}-crowd-comparisons.csv"))
        frames.append(judged.with_columns(worker=pl.lit(name)).select(columns))
    return pl.concat(frames).select(
        prompt_id=pl.format("{}", "prompt"),
        response_a_id=pl.format("{}/{}", "prompt", "left"),
        response_b_id=pl.format("{}/{}", "prompt", "right"),
        vote=pl.col("winner").replace_strict({"left": "a", "right": "b", "tie": "tie"}),
        annotator_id="worker",
    )
