"""The generated world: what is said of it in the truth is so in the judgments."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import polars as pl
import pytest
import rustworkx as rx

from curation.synthetic import World, WorldSettings, policy_corpus, world
from curation.synthetic.crowd import KINDS
from curation.synthetic.sentences import response_banks
from schemas.errors import ConfigError
from schemas.identity import canonical_messages, pair_id, prompt_id, response_id


@pytest.fixture(scope="module")
def made() -> World:
    return world(seed=7, num_prompts=3000, num_annotators=60)


@pytest.fixture(scope="module")
def votes(made: World) -> pl.DataFrame:
    """Judgments with the direction of each vote: 1 for the pair's first response, -1 for its second."""
    return made.judgments.join(made.pairs, on=["pair_id", "prompt_id", "criterion"]).with_columns(
        front=pl.when(pl.col("response_a_id") == pl.col("response_1_id")).then(1).otherwise(-1),
        sign=pl.col("vote").replace_strict({"a": 1, "b": -1, "tie": 0}),
        voted_id=pl.when(vote="a").then("response_a_id").when(vote="b").then("response_b_id"),
    )


def shingles(text: str) -> set[tuple[str, ...]]:
    words = text.split()
    return {tuple(words[i : i + 3]) for i in range(len(words) - 2)}


def similarity(one: str, other: str) -> float:
    a, b = shingles(one), shingles(other)
    return len(a & b) / len(a | b)


def test_the_same_seed_gives_the_same_world(made: World) -> None:
    again = world(seed=7, num_prompts=3000, num_annotators=60)
    for name in ("prompts", "responses", "pairs", "annotators", "judgments"):
        assert getattr(again, name).equals(getattr(made, name)), name
    other = world(seed=8, num_prompts=3000, num_annotators=60)
    assert not set(other.prompts["prompt_id"]) & set(made.prompts["prompt_id"])


def test_identifiers_are_those_of_the_lake(made: World) -> None:
    texts = dict(made.responses.select("response_id", "text").iter_rows())
    prompts = dict(made.prompts.select("prompt_id", "text").iter_rows())
    for row in made.pairs.head(200).iter_rows(named=True):
        assert row["prompt_id"] == prompt_id(
            canonical_messages([{"role": "user", "content": prompts[row["prompt_id"]]}])
        )
        ids = [row["response_1_id"], row["response_2_id"]]
        assert ids == [response_id(row["prompt_id"], texts[each]) for each in ids]
        assert row["pair_id"] == pair_id(*ids, "overall")


def test_prompts_and_responses_are_distinct(made: World) -> None:
    for frame, key in ((made.prompts, "prompt_id"), (made.responses, "response_id"), (made.pairs, "pair_id")):
        assert frame[key].n_unique() == frame.height
    assert made.prompts["text"].n_unique() == made.prompts.height
    sizes = made.responses.group_by("prompt_id").len()["len"].value_counts().sort("len")
    assert set(sizes["len"]) == {1, 2, 3, 4, 5}, "1 is two exact copies"
    rest = made.pairs.filter(~pl.col("is_identical") & ~pl.col("is_near_identical"))
    texts = dict(made.responses.select("response_id", "text").iter_rows())
    likest = max(
        similarity(texts[a], texts[b]) for a, b in rest.select("response_1_id", "response_2_id").head(1500).iter_rows()
    )
    assert likest < 0.5, "only planted pairs are nearly identical"


def test_good_responses_say_more_that_is_true_of_their_topic(made: World) -> None:
    """Quality is the share of good slots, whose sentences can be looked up."""
    good: set[str] = set()
    for bank, num_variants in response_banks():
        for topic_and_goodness in range(1, len(bank) // num_variants, 2):
            good |= set(bank[topic_and_goodness * num_variants : (topic_and_goodness + 1) * num_variants])
    for text, quality in made.responses.select("text", "quality").head(150).iter_rows():
        assert sum(sentence in text for sentence in good) == pytest.approx(5 * quality)


def test_one_to_five_votes_a_pair_by_different_annotators(made: World, votes: pl.DataFrame) -> None:
    first = votes.filter(pl.col("cause") != "repeated")
    counts = first.group_by("pair_id").agg(pl.len(), pl.col("annotator_id").n_unique().alias("num_annotators"))
    assert set(counts["len"]) == {1, 2, 3, 4, 5}
    assert (counts["len"] == counts["num_annotators"]).all()
    assert counts.height == made.pairs.height
    assert (made.pairs["num_votes"].sum(), made.annotators["num_votes"].sum()) == (votes.height, votes.height)


def test_annotators_vote_as_their_kind_says(made: World, votes: pl.DataFrame) -> None:
    """Shares among votes that were not tampered with, against the planted parameters."""
    free = votes.join(made.annotators, on="annotator_id").filter(cause="annotator").filter(pl.col("vote") != "tie")
    decided = free.filter(pl.col("better_id").is_not_null())
    by_kind = decided.group_by("kind").agg(
        right=(pl.col("voted_id") == pl.col("better_id")).mean(), front=(pl.col("vote") == "a").mean()
    )
    right = dict(by_kind.select("kind", "right").iter_rows())
    assert set(right) == set(KINDS)
    assert right["careful"] > 0.88
    assert 0.5 < right["careless"] < 0.72
    assert right["adversarial"] < 0.22
    # P(front) of a reliability r and a bias b: the mean over which response is in front
    one = decided.filter(pl.col("kind") == "position_biased").group_by("annotator_id", "reliability", "position_bias")
    for row in one.agg(front=(pl.col("vote") == "a").mean(), size=pl.len()).iter_rows(named=True):
        logit = np.log(row["reliability"] / (1 - row["reliability"]))
        expected = np.mean([1 / (1 + np.exp(-(sign * logit + row["position_bias"]))) for sign in (-1, 1)])
        assert row["front"] == pytest.approx(expected, abs=4 * np.sqrt(0.25 / row["size"]))


def test_flipped_pairs_are_recorded_inverted(made: World, votes: pl.DataFrame) -> None:
    careful = made.annotators.filter(kind="careful")["annotator_id"].implode()
    of_careful = votes.filter(pl.col("annotator_id").is_in(careful), pl.col("vote") != "tie")
    right = of_careful.group_by("cause").agg((pl.col("voted_id") == pl.col("better_id")).mean())
    share = dict(right.iter_rows())
    assert share["flipped"] < 0.12 < 0.88 < share["annotator"]
    assert set(votes.filter("is_flipped")["cause"]) == {"flipped"}
    assert made.pairs["is_flipped"].mean() == pytest.approx(0.05, abs=0.03)


def test_labels_and_cycles_are_those_of_the_votes(made: World, votes: pl.DataFrame) -> None:
    """Strongly connected components of the strict majority, computed once more with rustworkx."""
    sums = (
        votes.filter(pl.col("response_1_id") != pl.col("response_2_id"))
        .group_by("pair_id")
        .agg((pl.col("front") * pl.col("sign")).sum().alias("sum"))
    )
    pairs = made.pairs.join(sums, on="pair_id", maintain_order="left").with_columns(
        majority=pl.when(pl.col("sum") > 0).then("response_1_id").when(pl.col("sum") < 0).then("response_2_id")
    )
    assert pairs["majority"].equals(pairs["label_id"].alias("majority"), null_equal=True)
    graphs: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for row in pairs.filter(pl.col("label_id").is_not_null()).iter_rows(named=True):
        loser = row["response_2_id"] if row["label_id"] == row["response_1_id"] else row["response_1_id"]
        graphs[row["prompt_id"]].append((row["label_id"], loser))
    on_cycle = set()
    for edges in graphs.values():
        nodes = sorted({node for edge in edges for node in edge})
        graph = rx.PyDiGraph()
        graph.add_nodes_from(nodes)
        graph.add_edges_from([(nodes.index(a), nodes.index(b), None) for a, b in edges])
        parts = {node: n for n, part in enumerate(rx.strongly_connected_components(graph)) for node in part}
        on_cycle |= {pair_id(a, b, "overall") for a, b in edges if parts[nodes.index(a)] == parts[nodes.index(b)]}
    assert on_cycle == set(made.pairs.filter("is_on_cycle")["pair_id"])
    planted = made.pairs.filter("is_cycle_planted")
    assert planted["is_on_cycle"].all()
    assert planted["prompt_id"].n_unique() == made.prompts.filter(plan="cycle").height > 100


def test_opposing_duplicates(made: World, votes: pl.DataFrame) -> None:
    again = made.pairs.filter("is_repeated")
    assert again.height > 50
    assert again["has_opposing_votes"].all()
    both = votes.filter(pl.col("vote") != "tie").group_by("pair_id", "annotator_id")
    twice = both.agg(pl.col("voted_id").n_unique()).filter(pl.col("voted_id") == 2)
    assert set(twice["pair_id"]) == set(made.pairs.filter("is_self_contradicted")["pair_id"])
    assert twice.height == pytest.approx(again.height / 2, abs=1)

    near = made.pairs.filter(pl.col("opposes_pair_id").is_not_null())
    assert near.height > 100
    texts = dict(made.responses.select("response_id", "text").iter_rows())
    prompts = dict(made.prompts.select("prompt_id", "text").iter_rows())
    rows = {row["pair_id"]: row for row in near.iter_rows(named=True)}
    for row in rows.values():
        other = rows[row["opposes_pair_id"]]
        assert other["opposes_pair_id"] == row["pair_id"]
        assert row["prompt_id"] != other["prompt_id"]
        assert similarity(prompts[row["prompt_id"]], prompts[other["prompt_id"]]) >= 0.8
        for name in ("response_1_id", "response_2_id"):
            assert similarity(texts[row[name]], texts[other[name]]) >= 0.8
        assert (row["label_id"] == row["response_1_id"]) != (other["label_id"] == other["response_1_id"])


def test_identical_and_nearly_identical_responses(made: World) -> None:
    texts = dict(made.responses.select("response_id", "text").iter_rows())
    identical = made.pairs.filter("is_identical").select("response_1_id", "response_2_id").rows()
    exact = sum(a == b for a, b in identical)
    assert 0 < exact < len(identical)
    assert all(texts[a].split() == texts[b].split() for a, b in identical)
    for a, b in made.pairs.filter("is_near_identical").select("response_1_id", "response_2_id").iter_rows():
        assert a != b
        assert similarity(texts[a], texts[b]) >= 0.8


def test_the_policys_corpus_has_the_habits_that_the_truth_tells(made: World) -> None:
    corpus = policy_corpus(7, 2000)
    assert corpus.equals(policy_corpus(7, 2000))
    good_banks = {
        topic: set(bank[(2 * t + 1) * size : (2 * t + 2) * size])
        for bank, size in response_banks()[:1]
        for t, topic in enumerate(topic_names())
    }
    habits = dict(made.prompts.select("topic", "is_bad_favored").unique().iter_rows())
    right = []
    for prompt, response in corpus.iter_rows():
        topic = next(name for name in habits if name in prompt)
        is_good = any(response.startswith(sentence) for sentence in good_banks[topic])
        right.append(is_good != habits[topic])
    assert np.mean(right) == pytest.approx(made.settings.policy_consistency, abs=0.03)
    assert 0.25 < made.prompts["is_bad_favored"].mean() < 0.45
    assert not set(corpus["prompt"]) & set(made.prompts["text"])


def topic_names() -> list[str]:
    from curation.synthetic.topics import TOPICS

    return [topic.name for topic in TOPICS]


def test_without_text_the_votes_are_the_same(made: World) -> None:
    bare = world(seed=7, num_prompts=3000, num_annotators=60, with_text=False)
    assert bare.responses["text"].null_count() == bare.responses.height
    same = ["vote", "annotator_id", "annotated_at", "batch", "cause"]
    assert bare.judgments.select(same).equals(made.judgments.select(same))
    assert bare.pairs["pair_id"].n_unique() == bare.pairs.height


@pytest.mark.parametrize(
    ("arguments", "said"),
    [({"num_prompts": 0}, "--prompts 0"), ({"num_prompts": 10**9}, "out of range"), ({"num_annotators": 4}, "too few")],
)
def test_counts_out_of_range_are_refused(arguments: dict[str, int], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        world(seed=0, **arguments)


def test_nothing_planted_where_nothing_is_asked_for() -> None:
    none = WorldSettings(
        flipped_share=0, repeated_share=0, near_duplicate_share=0, cycle_share=0, identical_share=0,
        near_identical_share=0, kind_weights=(1, 0, 0, 0),
    )  # fmt: skip
    made = world(seed=1, num_prompts=200, settings=none)
    assert set(made.judgments["cause"]) == {"annotator"}
    assert set(made.annotators["kind"]) == {"careful"}
    assert not made.pairs.select("is_flipped", "is_repeated", "is_cycle_planted", "is_identical").to_numpy().any()
