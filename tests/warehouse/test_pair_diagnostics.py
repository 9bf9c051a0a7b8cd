"""Hand-worked values of ``mart.pair_diagnostics`` and ``mart.beta_sensitivity``."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import polars as pl
import pytest

from warehouse.lake import Lake
from warehouse.settings import LakeSettings

# Two tokens an answer: log-probs -1.0, -0.5 for the chosen and -0.3, -0.2 for the rejected one, so that the reference
# favors the rejected answer by one nat in all and half a nat a token. p_chosen = 3/4 gives a reward gap of ln 3.
CHOSEN, REJECTED = -1.0 + -0.5, -0.3 + -0.2
GAP = math.log(3)


def estimate(pair: str, **changed: Any) -> dict[str, Any]:
    row = {
        "pair_id": pair,
        "prompt_id": f"prompt-{pair}",
        "criterion": "overall",
        "source": "hand",
        "chosen_id": f"{pair}-w",
        "rejected_id": f"{pair}-l",
        "num_votes": 4,
        "num_votes_chosen": 2,
        "num_votes_rejected": 1,
        "num_ties": 1,
        "num_annotators": 4,
        "p_chosen": 0.75,
        "p_tie": 0.2,
        "p_consensus_right": 0.8,
        "is_tied": False,
        "is_taste_split": None,
        "vote_q_value": 1.0,
        "run_id": "run",
    }
    return row | changed


def score(
    response: str, logps: float | None, tokens: int = 2, noise: float | None = None, is_truncated: bool = False
) -> dict[str, Any]:
    return {
        "reference_id": "ref",
        "response_id": response,
        "logps": logps,
        "noise": noise,
        "num_tokens": tokens,
        "num_prompt_tokens": 3,
        "is_truncated": is_truncated,
    }


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    estimates = [
        estimate("wrong"),
        estimate("right"),
        estimate("tied", p_chosen=0.5, is_tied=True),
        estimate("long"),
        estimate("new"),
        estimate("cut", p_chosen=0.5, is_tied=True),
        estimate("refused"),
    ]
    scores = [
        score("wrong-w", CHOSEN),
        score("wrong-l", REJECTED),
        score("right-w", REJECTED, noise=0.24),
        score("right-l", CHOSEN, tokens=4, noise=0.32),
        score("tied-w", CHOSEN, noise=0.36),
        score("tied-l", REJECTED, noise=0.48),
        score("long-w", CHOSEN),
        score("long-l", None, tokens=5000, is_truncated=True),
        score("cut-w", CHOSEN, is_truncated=True),
        score("cut-l", REJECTED),
        score("refused-w", None, tokens=0),
        score("refused-l", REJECTED),
    ]
    filler = """
        'vllm' as engine, 'flat' as engine_path, '0' as engine_version, 'float32' as dtype,
        now()::timestamp as scored_at, 'run' as run_id
    """
    with Lake.create(tmp_path_factory.mktemp("lake"), LakeSettings()) as lake:
        frames = {
            "estimates": pl.DataFrame(estimates, schema_overrides={"is_taste_split": pl.Boolean}),
            "scores": pl.DataFrame(scores, schema_overrides={"noise": pl.Float64}),
        }
        with lake.registered(**frames):

            def fill(con: Any) -> None:
                con.execute("insert into raw.pair_estimates by name select * from estimates")
                con.execute(f"insert into raw.reference_scores by name select *, {filler} from scores")
                con.execute("""
                    insert into raw.reference_policies by name
                    select 'ref' as reference_id, 'm' as model, 'h' as weights_hash, 't' as tokenizer_hash,
                        'chat' as template, 1024 as max_length, 'never' as truncate, now()::timestamp as created_at,
                        'run' as run_id
                """)
                con.execute("insert into raw.parameters values ('beta', 0.5)")

            lake.transact("fill", fill)
        yield lake


def row(lake: Lake, pair: str) -> dict[str, Any]:
    return lake.frame("select * from mart.pair_diagnostics where pair_id = ?", [pair]).row(0, named=True)


def test_a_pair_that_the_reference_gets_wrong(lake: Lake) -> None:
    found = row(lake, "wrong")
    assert found["reference_margin"] == pytest.approx(-1.0)
    assert found["reference_margin_mean"] == pytest.approx(-0.5)
    assert found["is_reference_wrong"]
    assert found["is_reference_wrong_mean"]
    assert found["reward_gap"] == pytest.approx(GAP)
    assert found["rlhf_margin"] == pytest.approx(-1.0 + GAP / 0.5)
    assert found["is_assumption_held"]
    assert found["beta_max"] == pytest.approx(GAP / 1.0)
    assert found["vote_share_chosen"] == pytest.approx(2.5 / 4)


def test_the_assumption_fails_exactly_above_beta_max(lake: Lake) -> None:
    below, above = lake.con.execute(f"""
        select
            reference_margin + reward_gap / {GAP * 0.999} > 0,
            reference_margin + reward_gap / {GAP * 1.001} > 0
        from mart.pair_diagnostics where pair_id = 'wrong'
    """).fetchone()
    assert (below, above) == (True, False)


def test_a_pair_that_the_reference_gets_right_is_safe_at_every_beta(lake: Lake) -> None:
    found = row(lake, "right")
    assert found["reference_margin"] == pytest.approx(1.0)
    assert found["reference_margin_mean"] == pytest.approx(-0.25 - -0.375)
    assert found["beta_max"] == math.inf
    assert found["is_assumption_held"]
    assert found["length_difference"] == -2


def test_a_margin_within_twice_its_noise_is_uncertain(lake: Lake) -> None:
    assert row(lake, "right")["is_margin_uncertain"] is False  # a margin of 1.0, twice its noise is 0.8
    assert row(lake, "tied")["is_margin_uncertain"] is True  # a margin of -1.0, twice its noise is 1.2
    assert row(lake, "wrong")["is_margin_uncertain"] is None


def test_an_even_consensus_has_no_reward_gap(lake: Lake) -> None:
    found = row(lake, "tied")
    assert found["reward_gap"] == 0
    assert found["beta_max"] == 0
    assert not found["is_assumption_held"]


@pytest.mark.parametrize("pair", ["long", "new"])
def test_what_is_not_scored_is_null_and_not_zero(lake: Lake, pair: str) -> None:
    found = row(lake, pair)
    assert found["reference_margin"] is None
    assert found["is_reference_wrong"] is None
    assert found["beta_max"] is None
    assert found["is_truncated"] == (True if pair == "long" else None)
    assert found["p_flip"] is None


def test_a_cut_prompt_is_not_what_does_not_fit(lake: Lake) -> None:
    found = {pair: row(lake, pair) for pair in ("cut", "long", "right", "refused")}
    assert {pair: values["is_truncated"] for pair, values in found.items()} == {
        "cut": False,
        "long": True,
        "right": False,
        "refused": False,
    }
    assert [pair for pair, values in found.items() if values["is_prompt_cut"]] == ["cut"]
    assert found["cut"]["reference_margin"] == pytest.approx(-1.0)


def test_what_cannot_be_tokenized_has_no_length(lake: Lake) -> None:
    found = row(lake, "refused")
    assert found["chosen_num_tokens"] is None
    assert found["length_difference"] is None


def test_beta_sensitivity_counts_scored_untied_pairs(lake: Lake) -> None:
    frame = lake.frame("select * from mart.beta_sensitivity order by beta")
    assert frame["num_pairs"].unique().to_list() == [2]
    # "wrong" fails above ln 3 = 1.0986, "right" never
    failing = dict(zip(frame["beta"], frame["share_failing"], strict=True))
    assert failing[1.0] == 0
    assert failing[1.5] == 0.5
    assert frame["weight_share_failing"].is_null().all()
