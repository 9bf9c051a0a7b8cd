"""Preference graphs worked by hand, compared with independent implementations, and under renaming."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from random import Random

import evalica
import numpy as np
import polars as pl
import pytest
import rustworkx as rx
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.graphs import PreferenceGraphs, preference_graphs
from curation.graphs.bradley_terry import bradley_terry
from curation.graphs.comparisons import Comparisons

Row = tuple[str, str, int, int, int]
"""Two responses, votes for each, ties."""


def votes(rows: Iterable[Row], prompt: str = "p", criterion: str = "overall") -> pl.DataFrame:
    listed = [(f"{prompt}/{x}{y}/{criterion}", prompt, criterion, x, y, vx, vy, ties) for x, y, vx, vy, ties in rows]
    columns = ["pair_id", "prompt_id", "criterion", "response_x_id", "response_y_id", "votes_x", "votes_y", "ties"]
    types = dict.fromkeys(columns[:5], pl.String) | dict.fromkeys(columns[5:], pl.Int64)
    return pl.DataFrame(listed, schema=types, orient="row")


def estimates(found: PreferenceGraphs) -> dict[str, dict[str, float]]:
    return {row["response_id"]: row for row in found.response_estimates.to_dicts()}


ROCK_PAPER_SCISSORS: list[Row] = [("p", "r", 3, 0, 0), ("r", "s", 3, 0, 0), ("s", "p", 3, 0, 0)]


def test_rock_paper_scissors() -> None:
    found = preference_graphs(votes(ROCK_PAPER_SCISSORS))
    (component,), (graph,) = found.components.to_dicts(), found.graphs.to_dicts()
    assert component["response_ids"] == ["p", "r", "s"]
    assert (component["num_responses"], component["num_edges"], component["num_three_cycles"]) == (3, 3, 1)
    assert component["shortest_cycle_length"] == 3
    assert (component["feedback_arc_set_size"], component["is_feedback_arc_set_exact"]) == (1, True)
    assert graph["curl_ratio"] == pytest.approx(1)
    assert graph["curl_ratio_null"] == pytest.approx(1 / 3)
    # two of the eight turnings run in circles, the other six rank: every one has a curl ratio of at most 1
    assert graph["curl_p_value"] == 1
    assert graph["zeta"] == 0
    assert found.pair_graph["shortest_cycle_length"].to_list() == [3, 3, 3]
    assert found.pair_graph["is_in_feedback_arc_set"].sum() == 1
    assert set(found.pair_graph["component_id"]) == {component["component_id"]}
    for row in estimates(found).values():
        assert row["bradley_terry"] == pytest.approx(0, abs=1e-9)
        assert row["hodge_rank"] == pytest.approx(0, abs=1e-9)


def test_a_ranking_has_no_cycle() -> None:
    found = preference_graphs(votes([("a", "b", 2, 0, 0), ("b", "c", 2, 0, 0), ("a", "c", 2, 0, 0)]))
    assert found.components.is_empty()
    assert found.pair_graph.is_empty()
    (graph,) = found.graphs.to_dicts()
    # the flow 1, 1, 1 has divergences 2, 0, -2 and so scores 2/3, 0, -2/3, which explain 2/3, 2/3 and 4/3 of it
    assert graph["curl_ratio"] == pytest.approx(1 - (4 / 9 + 4 / 9 + 16 / 9) / 3)
    assert graph["zeta"] == 1
    assert graph["curl_p_value"] is None
    assert [estimates(found)[name]["hodge_rank"] for name in "abc"] == pytest.approx([2 / 3, 0, -2 / 3])


def test_one_pair_by_hand() -> None:
    """The score solves ``sigmoid(-2 s) = s / 4`` for one vote: half of it lies on either side of 0."""
    found = estimates(preference_graphs(votes([("a", "b", 1, 0, 0)])))
    score = found["a"]["bradley_terry"]
    assert 1 / (1 + np.exp(2 * score)) == pytest.approx(score / 4)
    assert found["b"]["bradley_terry"] == pytest.approx(-score)
    chance = 1 / (1 + np.exp(-2 * score))
    # the difference has the precision of the vote, p (1 - p), and of the prior, 1 / 8; the score is half of it
    half = 1.959964 / 2 / np.sqrt(chance * (1 - chance) + 1 / 8)
    assert found["a"]["bradley_terry_high"] - score == pytest.approx(half, rel=1e-5)
    assert score - found["a"]["bradley_terry_low"] == pytest.approx(half, rel=1e-5)
    assert found["a"]["hodge_rank"] == pytest.approx(0.5)


def test_a_lone_pair_is_scored_like_any_other() -> None:
    lone = estimates(preference_graphs(votes([("a", "b", 4, 1, 2)])))
    beside = estimates(preference_graphs(votes([("a", "b", 4, 1, 2), ("c", "d", 0, 3, 0)])))
    for name in "ab":
        for column in ("bradley_terry", "bradley_terry_low", "bradley_terry_high", "hodge_rank"):
            assert lone[name][column] == pytest.approx(beside[name][column], abs=1e-9)


def test_equal_votes_make_no_edge() -> None:
    found = preference_graphs(votes([("a", "b", 1, 0, 0), ("b", "c", 1, 0, 0), ("c", "a", 1, 1, 0)]))
    assert found.components.is_empty()
    assert found.graphs["num_edges"].to_list() == [2]
    assert found.graphs["zeta"].to_list() == [None]


def test_a_graph_without_a_loop_has_no_curl() -> None:
    found = preference_graphs(votes([("a", "b", 1, 0, 0), ("b", "c", 1, 0, 0), ("c", "d", 0, 1, 0)]))
    assert found.graphs["curl_ratio"].to_list() == [None]
    assert found.graphs["curl_ratio_null"].to_list() == [None]


def test_ties_alone_have_no_curl() -> None:
    found = preference_graphs(votes([("a", "b", 0, 0, 1), ("b", "c", 0, 0, 1), ("c", "a", 0, 0, 1)]))
    assert found.graphs["curl_ratio"].to_list() == [None]
    assert estimates(found)["a"]["bradley_terry"] == pytest.approx(0)


def test_the_null_expectation_on_complete_graphs() -> None:
    for n in (3, 4, 7):
        rows: list[Row] = [(f"{i}", f"{j}", 1, 0, 0) for i, j in itertools.combinations(range(n), 2)]
        assert preference_graphs(votes(rows)).graphs["curl_ratio_null"].to_list() == pytest.approx([1 - 2 / n])


def test_the_null_expectation_is_the_mean_over_all_turnings() -> None:
    counts = [(3, 1, 0), (1, 0, 0), (2, 0, 3), (0, 5, 0), (2, 1, 0)]
    edges = [("a", "b"), ("b", "c"), ("c", "d"), ("d", "a"), ("a", "c")]
    seen = []
    for turned in itertools.product([False, True], repeat=5):
        rows = [
            (x, y, *((vy, vx) if turn else (vx, vy)), ties)
            for (x, y), (vx, vy, ties), turn in zip(edges, counts, turned, strict=True)
        ]
        seen.append(preference_graphs(votes(rows)).graphs.row(0, named=True))
    curls = np.array([each["curl_ratio"] for each in seen])
    for each in seen:
        assert each["curl_ratio_null"] == pytest.approx(curls.mean())
        if each["curl_p_value"] is not None:
            assert each["curl_p_value"] == pytest.approx((curls <= each["curl_ratio"] + 1e-9).mean())


def test_zeta_of_an_even_complete_graph() -> None:
    """Four responses with two circular triads, the most there can be."""
    rows: list[Row] = [("a", "b", 1, 0, 0), ("b", "c", 1, 0, 0), ("c", "d", 1, 0, 0), ("d", "a", 1, 0, 0)]
    found = preference_graphs(votes([*rows, ("a", "c", 1, 0, 0), ("b", "d", 1, 0, 0)]))
    assert found.graphs["num_three_cycles"].to_list() == [2]
    assert found.graphs["zeta"].to_list() == [0]


def test_two_components_of_one_prompt_and_two_criteria() -> None:
    far: list[Row] = [(x.upper(), y.upper(), *rest) for x, y, *rest in ROCK_PAPER_SCISSORS]
    bridge: list[Row] = [("p", "P", 1, 0, 0)]
    frame = pl.concat([votes([*ROCK_PAPER_SCISSORS, *far, *bridge]), votes(ROCK_PAPER_SCISSORS[:2], criterion="tone")])
    found = preference_graphs(frame)
    assert found.components["response_ids"].to_list() == [["P", "R", "S"], ["p", "r", "s"]]
    # energies 9, 9 and 1, of which a ranking explains the bridge's; turned at random, two thirds of the circles' too
    assert found.graphs["curl_ratio"].to_list()[:1] == pytest.approx([18 / 19])
    assert found.graphs["curl_ratio_null"].to_list()[:1] == pytest.approx([6 / 19])
    assert not found.pair_graph["pair_id"].is_in(["p/pP/overall"]).any()
    assert found.graphs.select("criterion", "num_edges").rows() == [("overall", 7), ("tone", 2)]


def test_a_response_against_itself_and_a_pair_without_votes_are_left_out() -> None:
    found = preference_graphs(votes([("a", "a", 3, 0, 0), ("a", "b", 0, 0, 0)]))
    assert found.response_estimates.is_empty()


def test_no_votes() -> None:
    found = preference_graphs(votes([]))
    for table in (found.pair_graph, found.components, found.response_estimates, found.graphs):
        assert table.is_empty()


@st.composite
def graphs(draw: st.DrawFn, max_size: int = 7) -> list[Row]:
    size = draw(st.integers(2, max_size))
    count = st.integers(0, 3)
    rows = []
    for i, j in itertools.combinations(range(size), 2):
        if draw(st.integers(0, 3)):
            rows.append((f"n{i:02d}", f"n{j:02d}", draw(count), draw(count), draw(st.integers(0, 1))))
    return rows


def edges_of(rows: list[Row]) -> list[tuple[str, str]]:
    return [(x, y) if vx > vy else (y, x) for x, y, vx, vy, _ in rows if vx != vy]


@settings(deadline=None, max_examples=60)
@given(graphs())
def test_cycles_equal_those_of_rustworkx(rows: list[Row]) -> None:
    found = preference_graphs(votes(rows))
    graph: rx.PyDiGraph = rx.PyDiGraph()
    number = {name: graph.add_node(name) for name in sorted({n for row in rows for n in row[:2]})}
    edges = edges_of(rows)
    graph.add_edges_from([(number[a], number[b], None) for a, b in edges])
    expected = sorted(
        sorted(graph[i] for i in part) for part in rx.strongly_connected_components(graph) if len(part) > 1
    )
    assert sorted(found.components["response_ids"].to_list()) == expected
    member = {name: k for k, part in enumerate(expected) for name in part}
    lengths = {}
    for a, b in edges:
        if a in member and member[a] == member.get(b):
            distance = rx.digraph_dijkstra_shortest_path_lengths(graph, number[b], lambda _: 1.0, number[a])
            x, y = sorted((a, b))
            lengths[f"p/{x}{y}/overall"] = 1 + int(distance[number[a]])
    assert dict(found.pair_graph.select("pair_id", "shortest_cycle_length").rows()) == lengths
    triangles = sum(
        {(a, b), (b, c), (c, a)} <= set(edges) or {(b, a), (c, b), (a, c)} <= set(edges)
        for a, b, c in itertools.combinations(sorted(number), 3)
    )
    assert found.components["num_three_cycles"].sum() == triangles


@settings(deadline=None, max_examples=40)
@given(graphs(max_size=6))
def test_the_feedback_arc_set_is_minimal_and_leaves_no_cycle(rows: list[Row]) -> None:
    found = preference_graphs(votes(rows))
    edges = edges_of(rows)
    names = sorted({n for row in rows for n in row[:2]})
    fewest = min(
        (sum(order.index(a) > order.index(b) for a, b in edges) for order in itertools.permutations(names)), default=0
    )
    assert found.components["feedback_arc_set_size"].sum() == fewest
    reversed_pairs = set(found.pair_graph.filter("is_in_feedback_arc_set")["pair_id"])
    rest = [
        (x, y, vy, vx, t) if f"p/{x}{y}/overall" in reversed_pairs else (x, y, vx, vy, t) for x, y, vx, vy, t in rows
    ]
    assert preference_graphs(votes(rest)).components.is_empty()


def test_of_equally_many_arcs_the_weakest_are_reversed() -> None:
    rows: list[Row] = [("a", "b", 3, 0, 0), ("b", "c", 2, 1, 0), ("c", "a", 3, 0, 0)]
    found = preference_graphs(votes(rows))
    assert found.pair_graph.filter("is_in_feedback_arc_set")["pair_id"].to_list() == ["p/bc/overall"]


def test_the_greedy_feedback_arc_set_of_a_large_component_leaves_no_cycle() -> None:
    rng = np.random.default_rng(5)
    rows: list[Row] = [
        (f"n{i:02d}", f"n{j:02d}", *((1, 0) if rng.random() < 0.7 else (0, 1)), 0)
        for i, j in itertools.combinations(range(20), 2)
    ]
    found = preference_graphs(votes(rows))
    assert not found.components["is_feedback_arc_set_exact"].any()
    assert 0 < found.components["feedback_arc_set_size"].sum() <= sum(vy for _, _, _, vy, _ in rows)
    reversed_pairs = set(found.pair_graph.filter("is_in_feedback_arc_set")["pair_id"])
    rest = [
        (x, y, vy, vx, t) if f"p/{x}{y}/overall" in reversed_pairs else (x, y, vx, vy, t) for x, y, vx, vy, t in rows
    ]
    assert preference_graphs(votes(rest)).components.is_empty()


@settings(deadline=None, max_examples=40)
@given(graphs())
def test_hodge_rank_is_the_least_squares_solution(rows: list[Row]) -> None:
    used = [row for row in rows if sum(row[2:])]
    found = estimates(preference_graphs(votes(rows)))
    if not used:
        assert not found
        return
    names = sorted({n for row in used for n in row[:2]})
    incidence = np.zeros((len(used), len(names)))
    for k, (x, y, *_) in enumerate(used):
        incidence[k, names.index(x)], incidence[k, names.index(y)] = 1, -1
    weight = np.array([sum(row[2:]) for row in used], float)
    flow = np.array([(row[2] - row[3]) / sum(row[2:]) for row in used])
    root = np.sqrt(weight)
    scores = np.linalg.lstsq(incidence * root[:, None], flow * root, rcond=None)[0]
    assert [found[name]["hodge_rank"] for name in names] == pytest.approx(scores.tolist(), abs=1e-8)


def test_bradley_terry_without_prior_equals_evalica() -> None:
    rng = np.random.default_rng(3)
    rows: list[Row] = [
        (f"n{i}", f"n{j}", *(int(k) for k in rng.integers(1, 9, 2)), int(rng.integers(0, 3)))
        for i, j in itertools.combinations(range(8), 2)
    ]
    ours = Comparisons.of(votes(rows))
    scores = bradley_terry(ours, prior_sd=np.inf).scores
    left, right, winners = [], [], []
    for x, y, vx, vy, ties in rows:
        for winner, count in ((evalica.Winner.X, vx), (evalica.Winner.Y, vy), (evalica.Winner.Draw, ties)):
            left += [x] * count
            right += [y] * count
            winners += [winner] * count
    theirs = np.log(evalica.bradley_terry(left, right, winners, tolerance=1e-12, limit=10_000).scores)
    theirs = (theirs - theirs.mean()).sort_index()
    assert scores.tolist() == pytest.approx(theirs.tolist(), abs=1e-5)


def test_bradley_terry_intervals_cover_the_truth() -> None:
    """Planted rewards of 200 prompts of five responses, ten votes a pair: 95 % of the intervals hold the truth."""
    rng = np.random.default_rng(8)
    frames, truth = [], {}
    for prompt in range(200):
        reward = rng.normal(0, 1, 5)
        rows = []
        for i, j in itertools.combinations(range(5), 2):
            won = int(rng.binomial(10, 1 / (1 + np.exp(reward[j] - reward[i]))))
            rows.append((f"{prompt}-{i}", f"{prompt}-{j}", won, 10 - won, 0))
        truth |= {f"{prompt}-{i}": reward[i] - reward.mean() for i in range(5)}
        frames.append(votes(rows, prompt=f"q{prompt}"))
    found = estimates(preference_graphs(pl.concat(frames)))
    covered = [found[k]["bradley_terry_low"] <= v <= found[k]["bradley_terry_high"] for k, v in truth.items()]
    assert 0.925 <= np.mean(covered) <= 0.975


@settings(deadline=None, max_examples=30)
@given(graphs(), st.randoms(use_true_random=False))
def test_nothing_depends_on_the_order_of_rows_or_on_which_response_is_x(rows: list[Row], random: Random) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)
    plain = votes(rows)
    turned = votes(shuffled).select(
        "pair_id",
        "prompt_id",
        "criterion",
        response_x_id="response_y_id",
        response_y_id="response_x_id",
        votes_x="votes_y",
        votes_y="votes_x",
        ties="ties",
    )
    one, two = preference_graphs(plain), preference_graphs(turned)
    assert one.components.equals(two.components)
    assert one.graphs.equals(two.graphs)
    assert one.pair_graph.equals(two.pair_graph)
    assert one.response_estimates.sort("response_id").equals(two.response_estimates.sort("response_id"))


@settings(deadline=None, max_examples=30)
@given(graphs(max_size=5), st.permutations(range(5)))
def test_renaming_the_responses_renames_the_result(rows: list[Row], order: list[int]) -> None:
    name = {f"n{i:02d}": f"m{order[i]:02d}" for i in range(5)}
    one = preference_graphs(votes(rows))
    two = preference_graphs(votes([(name[x], name[y], *rest) for x, y, *rest in rows]))
    sizes = ["num_responses", "num_edges", "num_three_cycles", "shortest_cycle_length", "feedback_arc_set_size"]
    assert sorted(one.components.select(sizes).rows()) == sorted(two.components.select(sizes).rows())
    for column in ("curl_ratio", "curl_ratio_null", "curl_p_value", "zeta"):
        left, right = one.graphs[column].to_list(), two.graphs[column].to_list()
        assert left == pytest.approx(right, abs=1e-9, nan_ok=True) if None not in left else left == right
    ours, theirs = estimates(one), estimates(two)
    for old, new in name.items():
        if old in ours:
            for column in ("bradley_terry", "bradley_terry_low", "hodge_rank"):
                assert ours[old][column] == pytest.approx(theirs[new][column], abs=1e-7)
