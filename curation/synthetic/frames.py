"""From the draft's arrays to frames with content-hash identifiers."""

from __future__ import annotations

from datetime import datetime

import duckdb
import numpy as np
import polars as pl

from curation.synthetic import draft
from curation.synthetic.graph import on_cycle
from curation.synthetic.repeats import labels
from curation.synthetic.texts import Bools, Ints
from curation.synthetic.topics import TOPICS
from schemas.identity import sql_digest, sql_pair_id

CRITERION = "overall"
START = datetime(2026, 1, 5)  # a Monday
_WEEK_MICROSECONDS = 7 * 24 * 3600 * 1_000_000


def prompts_frame(
    seed: int, prompts: draft.Prompts, topic: Ints, is_bad_favored: Bools, texts: pl.Series | None
) -> pl.DataFrame:
    """Prompts in the draft's order; the columns stand in :class:`curation.synthetic.World`."""
    text = _no_text(len(topic)) if texts is None else texts
    messages = """'[{"role":"user","content":' || to_json(text)::varchar || '}]'"""
    content = f"'world {int(seed)} prompt ' || number" if texts is None else messages
    ids = _ids(sql_digest(content), text=text)
    return pl.DataFrame(
        {
            "prompt_id": ids,
            "text": text,
            "topic": pl.Series([each.name for each in TOPICS]).gather(topic),
            "plan": pl.Series(draft.PLANS).gather(prompts.plan),
            "is_bad_favored": is_bad_favored,
            "near_duplicate_of": _gather_or_null(ids, prompts.original),
        }
    )


def responses_frame(prompts: pl.DataFrame, responses: draft.Responses, texts: pl.Series | None) -> pl.DataFrame:
    """Responses in the draft's order; copies of one another have the same identifier."""
    prompt_id = prompts["prompt_id"].gather(responses.prompt)
    text = _no_text(len(prompt_id)) if texts is None else texts
    content = "number::varchar" if texts is None else "text"
    ids = _ids(sql_digest("prompt_id", content), prompt_id=prompt_id, text=text)
    return pl.DataFrame({"response_id": ids, "prompt_id": prompt_id, "text": text, "quality": responses.quality})


def pairs_frame(
    prompt_rows: pl.DataFrame,
    response_rows: pl.DataFrame,
    prompts: draft.Prompts,
    responses: draft.Responses,
    pairs: draft.Pairs,
    votes: draft.Votes,
    again: draft.Votes,
    is_bad_favored: Bools,
) -> pl.DataFrame:
    """Pairs in the draft's order, with everything that is true of them."""
    size = len(pairs.prompt)
    first, second = (response_rows["response_id"].gather(rows) for rows in (pairs.first, pairs.second))
    pair_id = _ids(sql_pair_id("first", "second", f"'{CRITERION}'"), first=first, second=second)
    is_one_text = (first == second).to_numpy()  # votes between a text and itself say nothing
    label = np.where(is_one_text, 0, labels(size, votes))
    better = np.sign(responses.num_good[pairs.first] - responses.num_good[pairs.second])
    plan = prompts.plan[pairs.prompt]
    ranks = responses.rank[pairs.first], responses.rank[pairs.second]
    repeated = np.bincount(again.pair, minlength=size) > 0
    opposed = pairs.original.copy()
    opposed[pairs.original[pairs.original >= 0]] = np.flatnonzero(pairs.original >= 0)
    return pl.DataFrame(
        {
            "pair_id": pair_id,
            "prompt_id": prompt_rows["prompt_id"].gather(pairs.prompt),
            "criterion": pl.repeat(CRITERION, size, eager=True),
            "response_1_id": first,
            "response_2_id": second,
            "better_id": _choose(better, first, second),
            "label_id": _choose(label, first, second),
            "favored_id": _choose(np.where(is_bad_favored[pairs.prompt], -better, better), first, second),
            "num_votes": np.bincount(votes.pair, minlength=size),
            "is_flipped": pairs.is_flipped,
            "is_repeated": repeated,
            "is_self_contradicted": _self_contradicted(size, votes),
            "opposes_pair_id": _gather_or_null(pair_id, opposed),
            "is_cycle_planted": (plan == draft.PLANS.index("cycle")) & (pairs.forced != 0),
            "is_on_cycle": on_cycle(len(prompts.plan), pairs.prompt, *ranks, label),
            "has_opposing_votes": ~is_one_text
            & (np.bincount(votes.pair[votes.value > 0], minlength=size) > 0)
            & (np.bincount(votes.pair[votes.value < 0], minlength=size) > 0),
            "is_identical": plan == draft.PLANS.index("identical"),
            "is_near_identical": plan == draft.PLANS.index("near_identical"),
        }
    )


def judgments_frame(pairs: pl.DataFrame, votes: draft.Votes) -> pl.DataFrame:
    """Votes in display order, by time."""
    order = np.argsort(votes.at, kind="stable")
    pair, shown, value, at = votes.pair[order], votes.is_first_shown_first[order], votes.value[order], votes.at[order]
    first, second = (pairs[name].gather(pair) for name in ("response_1_id", "response_2_id"))
    in_display_order = np.where(shown, value, -value)
    a, b = pl.select(
        pl.when(pl.Series(shown)).then(first).otherwise(second).alias("a"),
        pl.when(pl.Series(shown)).then(second).otherwise(first).alias("b"),
    )
    week = np.minimum(at.astype(np.int64), draft.WEEKS - 1)
    return pl.DataFrame(
        {
            "pair_id": pairs["pair_id"].gather(pair),
            "prompt_id": pairs["prompt_id"].gather(pair),
            "response_a_id": a,
            "response_b_id": b,
            "vote": pl.Series(["b", "tie", "a"]).gather(in_display_order + 1),
            "annotator_id": annotator_names(int(votes.annotator.max()) + 1).gather(votes.annotator[order]),
            "criterion": pl.repeat(CRITERION, len(pair), eager=True),
            "annotated_at": pl.Series(np.datetime64(START, "us") + (at * _WEEK_MICROSECONDS).astype("timedelta64[us]")),
            "batch": pl.Series([f"week-{number:02d}" for number in range(1, draft.WEEKS + 1)]).gather(week),
            "cause": pl.Series(draft.CAUSES).gather(votes.cause[order]),
        }
    )


def annotator_names(num_annotators: int) -> pl.Series:
    """Identifiers of the annotators: w0001 and so on."""
    return pl.Series("annotator_id", [f"w{number:04d}" for number in range(1, num_annotators + 1)])


def _ids(expression: str, **columns: pl.Series) -> pl.Series:
    """A DuckDB expression over columns and their row number, in row order."""
    size = len(next(iter(columns.values())))
    rows = pl.DataFrame({"number": pl.Series(np.arange(size)), **columns})
    with duckdb.connect() as con:
        con.register("rows", rows.to_arrow())
        return con.execute(f"select number, {expression} as id from rows").pl().sort("number")["id"]


def _no_text(size: int) -> pl.Series:
    return pl.repeat(None, size, dtype=pl.String, eager=True)


def _gather_or_null(values: pl.Series, rows: Ints) -> pl.Series:
    """Values of these rows; NULL for row -1."""
    found = values.gather(np.maximum(rows, 0))
    return pl.select(pl.when(pl.Series(rows >= 0)).then(found)).to_series()


def _choose(direction: Ints, first: pl.Series, second: pl.Series) -> pl.Series:
    """The first where the direction is 1, the second where it is -1, NULL where it is 0."""
    sign = pl.Series(direction)
    return pl.select(pl.when(sign > 0).then(first).when(sign < 0).then(second)).to_series()


def _self_contradicted(size: int, votes: draft.Votes) -> Bools:
    """Pairs on which one annotator voted for either response."""
    key = votes.pair * (int(votes.annotator.max()) + 1) + votes.annotator
    both = np.intersect1d(key[votes.value > 0], key[votes.value < 0])
    return np.isin(np.arange(size), both // (int(votes.annotator.max()) + 1))
