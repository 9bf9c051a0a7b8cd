"""From votes to the tables of the preference graphs: pairs on cycles, their components, the responses' scores."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from curation.graphs.bradley_terry import BradleyTerry, bradley_terry
from curation.graphs.comparisons import VOTE_COLUMNS, Comparisons, Floats, Ints
from curation.graphs.cycles import Cycles, find_cycles
from curation.graphs.hodge_rank import HodgeRank, hodge_rank
from schemas.identity import digest


@dataclass(frozen=True)
class PreferenceGraphs:
    """The tables, each without its ``run_id``.

    Attributes:
        pair_graph: ``raw.pair_graph``, the pairs that lie on a cycle.
        components: ``raw.preference_components``, the strongly connected components of two or more responses.
        response_estimates: ``raw.response_estimates``, every response that was compared with another one.
        graphs: ``raw.prompt_graphs``, one row a prompt and criterion with at least three responses.
    """

    pair_graph: pl.DataFrame
    components: pl.DataFrame
    response_estimates: pl.DataFrame
    graphs: pl.DataFrame


def preference_graphs(votes: pl.DataFrame, *, seed: int = 0) -> PreferenceGraphs:
    """Cycles, HodgeRank and Bradley-Terry of every prompt's votes.

    Args:
        votes: one row a pair: ``pair_id``, ``prompt_id``, ``criterion``, ``response_x_id``, ``response_y_id``,
            ``votes_x``, ``votes_y``, ``ties``. Pairs of a response with itself and pairs without a vote are left out.
        seed: of the random turnings behind ``curl_p_value``.

    Returns:
        Tables that depend on the rows' content alone, not on their order; their own order means nothing.
    """
    usable = votes.select(VOTE_COLUMNS).filter(
        pl.col("response_x_id") != pl.col("response_y_id"),
        pl.col("votes_x") + pl.col("votes_y") + pl.col("ties") > 0,
    )
    is_alone = usable.select(pl.len().over("prompt_id", "criterion") == 1).to_series()
    graphs = _of_graphs(usable.filter(~is_alone), seed)
    lone = _lone_estimates(usable.filter(is_alone), graphs.response_estimates.columns)
    return replace(graphs, response_estimates=pl.concat([graphs.response_estimates, lone]))


def _of_graphs(votes: pl.DataFrame, seed: int) -> PreferenceGraphs:
    comparisons = Comparisons.of(votes)
    cycles = find_cycles(comparisons)
    component_graph = comparisons.graph_of_node[cycles.nodes[cycles.node_offsets[:-1]]]
    tested = np.zeros(len(comparisons.graphs), bool)
    tested[component_graph] = True
    hodge = hodge_rank(comparisons, tested, seed=seed)
    every_graph = _graphs(comparisons, cycles, component_graph, hodge)
    components = _components(comparisons, cycles, every_graph[component_graph])
    return PreferenceGraphs(
        pair_graph=_pair_graph(comparisons, cycles, components),
        components=components,
        response_estimates=_response_estimates(comparisons, hodge, bradley_terry(comparisons)),
        graphs=every_graph.filter(pl.col("num_responses") >= 3),
    )


def _lone_estimates(pairs: pl.DataFrame, columns: list[str]) -> pl.DataFrame:
    """Estimates of the responses whose prompt has this one pair.

    They depend on the votes alone, and most sets have few different counts of votes among millions of such pairs: each
    is estimated once, as a graph of its own.
    """
    counts = ["votes_x", "votes_y", "ties"]
    pairs = _lower_id_first(pairs)
    kinds = pairs.select(counts).unique(maintain_order=True).with_row_index("kind")
    name = pl.col("kind").cast(pl.String)
    examples = kinds.select(
        *counts, pair_id=name, prompt_id=name, criterion=pl.lit(""), response_x_id=name + "x", response_y_id=name + "y"
    )
    comparisons = Comparisons.of(examples)
    untested = np.zeros(len(comparisons.graphs), bool)
    estimates = _response_estimates(comparisons, hodge_rank(comparisons, untested), bradley_terry(comparisons))
    numbered = pairs.join(kinds, on=counts, how="left")
    sides = []
    for side in ("x", "y"):
        found = examples.select(response_id=f"response_{side}_id").join(
            estimates.drop("criterion"), on="response_id", how="left", maintain_order="left"
        )
        rows = found.drop("response_id")[numbered["kind"]]
        sides.append(numbered.select("criterion", response_id=f"response_{side}_id").hstack(rows).select(columns))
    return pl.concat(sides)


def _lower_id_first(pairs: pl.DataFrame) -> pl.DataFrame:
    """The same pairs with the lower response id as x, so that rounding is the same whichever came first."""
    turned = pl.col("response_x_id") > pl.col("response_y_id")
    other = {
        "response_x_id": "response_y_id",
        "response_y_id": "response_x_id",
        "votes_x": "votes_y",
        "votes_y": "votes_x",
    }
    return pairs.with_columns(pl.when(turned).then(b).otherwise(a).alias(a) for a, b in other.items())


def zeta(num_responses: Ints, num_three_cycles: Ints) -> Floats:
    """Kendall and Smith's coefficient of consistency of complete graphs: 1 without a circular triad, 0 with the most.

    ``1 - 24 d / (n^3 - n)`` for odd n and ``1 - 24 d / (n^3 - 4 n)`` for even n, n at least 3 (Kendall and Babington
    Smith 1940, On the method of paired comparisons).
    """
    n = num_responses.astype(np.float64)
    return 1 - 24 * num_three_cycles / (n**3 - np.where(num_responses % 2 == 1, n, 4 * n))


def _graphs(comparisons: Comparisons, cycles: Cycles, component_graph: Ints, hodge: HodgeRank) -> pl.DataFrame:
    count = len(comparisons.graphs)
    num_responses = np.diff(comparisons.node_offsets)
    is_edge = comparisons.votes_first != comparisons.votes_second
    num_edges = np.bincount(comparisons.graph_of_pair, weights=is_edge, minlength=count).astype(np.int64)
    triangles = np.bincount(component_graph, weights=cycles.num_three_cycles, minlength=count).astype(np.int64)
    is_complete = (num_edges == num_responses * (num_responses - 1) // 2) & (num_responses >= 3)
    consistency = np.full(count, np.nan)
    consistency[is_complete] = zeta(num_responses[is_complete], triangles[is_complete])
    return comparisons.graphs.with_columns(
        num_responses=pl.Series(num_responses, dtype=pl.Int32),
        num_pairs=pl.Series(np.diff(comparisons.pair_offsets), dtype=pl.Int32),
        num_edges=pl.Series(num_edges, dtype=pl.Int32),
        num_three_cycles=pl.Series(triangles, dtype=pl.Int64),
        curl_ratio=_nullable(hodge.curl_ratio),
        curl_ratio_null=_nullable(hodge.curl_ratio_null),
        curl_p_value=_nullable(hodge.p_value),
        zeta=_nullable(consistency),
    )


def _components(comparisons: Comparisons, cycles: Cycles, graphs: pl.DataFrame) -> pl.DataFrame:
    sizes = np.diff(cycles.node_offsets)
    members = pl.DataFrame(
        {
            "component": pl.Series(np.repeat(np.arange(len(sizes)), sizes), dtype=pl.Int64),
            "response_ids": comparisons.response_ids.gather(cycles.nodes),
        }
    )
    listed = members.group_by("component", maintain_order=True).agg(pl.col("response_ids"))
    ids = [
        digest(*responses, criterion)
        for responses, criterion in zip(listed["response_ids"].to_list(), graphs["criterion"], strict=True)
    ]
    return pl.DataFrame(
        {
            "component_id": pl.Series(ids, dtype=pl.String),
            "prompt_id": graphs["prompt_id"],
            "criterion": graphs["criterion"],
            "response_ids": listed["response_ids"],
            "num_responses": pl.Series(sizes, dtype=pl.Int32),
            "num_edges": pl.Series(np.diff(cycles.edge_offsets), dtype=pl.Int32),
            "num_three_cycles": pl.Series(cycles.num_three_cycles, dtype=pl.Int64),
            "shortest_cycle_length": _per_component(cycles, np.minimum, cycles.cycle_lengths),
            "feedback_arc_set_size": _per_component(cycles, np.add, cycles.is_feedback.astype(np.int64)),
            "is_feedback_arc_set_exact": pl.Series(cycles.is_exact, dtype=pl.Boolean),
        }
    )


def _per_component(cycles: Cycles, reduce: Any, values: Ints) -> pl.Series:
    starts = cycles.edge_offsets[:-1]
    return pl.Series(reduce.reduceat(values, starts) if len(starts) else values, dtype=pl.Int32)


def _pair_graph(comparisons: Comparisons, cycles: Cycles, components: pl.DataFrame) -> pl.DataFrame:
    owner = np.repeat(np.arange(len(components)), np.diff(cycles.edge_offsets))
    return pl.DataFrame(
        {
            "pair_id": comparisons.pair_ids.gather(cycles.pairs),
            "component_id": components["component_id"].gather(owner),
            "shortest_cycle_length": pl.Series(cycles.cycle_lengths, dtype=pl.Int32),
            "is_in_feedback_arc_set": pl.Series(cycles.is_feedback, dtype=pl.Boolean),
        }
    )


def _response_estimates(comparisons: Comparisons, hodge: HodgeRank, scores: BradleyTerry) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "response_id": comparisons.response_ids,
            "criterion": comparisons.graphs["criterion"].gather(comparisons.graph_of_node),
            "bradley_terry": scores.scores,
            "bradley_terry_low": scores.low,
            "bradley_terry_high": scores.high,
            "hodge_rank": hodge.scores,
        }
    )


def _nullable(values: Floats) -> pl.Series:
    return pl.Series(values, dtype=pl.Float64).fill_nan(None)
