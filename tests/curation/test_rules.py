"""What rules do to pairs: hand-worked cases over small frames."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from curation.rules.compile import compile_rules, flipped
from curation.rules.decide import DECIDED, count_rules, decide
from curation.rules.preview import preview
from curation.rules.ruleset import OBJECTIVES, load_rules, parse_rules, profiles
from schemas.errors import RuleError
from training.objectives import Objective
from warehouse.lake import Lake
from warehouse.settings import LakeSettings

BASE: dict[str, Any] = {
    "chosen_id": "w",
    "rejected_id": "l",
    "reference_margin": -2.0,
    "reference_margin_mean": -0.1,
    "reward_gap": 1.0,
    "rlhf_margin": 99.0,
    "is_assumption_held": True,
    "beta_max": 0.5,
    "p_chosen": 0.75,
    "p_flip": 0.2,
    "num_votes_chosen": 3,
    "num_votes_rejected": 1,
    "is_reference_wrong": True,
    "is_identical": False,
    "length_difference": 4,
}
NONE = "select null::varchar as pair_id, false as is_dropped, false as is_flipped, false as is_chosen_lower where false"


def run(rules: str, *pairs: dict[str, Any], adjudicated: str = NONE) -> list[dict[str, Any]]:
    """Decisions of pairs a, b, c, ..., each BASE with changes."""
    frame = pl.DataFrame([{"pair_id": "abcdefgh"[i], **BASE, **pair} for i, pair in enumerate(pairs)])
    con = duckdb.connect()
    con.register("pairs", frame.to_arrow())
    types = {str(row[0]): str(row[1]) for row in con.execute("describe pairs").fetchall()}
    decide(con, compile_rules(parse_rules(rules, origin="test"), types), pairs="pairs", adjudicated=adjudicated)
    return con.execute(f"select * from {DECIDED} order by pair_id").pl().to_dicts()


def rule(name: str, when: str, action: str, **more: str) -> str:
    extra = "".join(f"{key} = {value!r}\n" for key, value in more.items())
    return f'[[rule]]\nname = "{name}"\nwhen = {when!r}\naction = "{action}"\n{extra}'


def test_a_pair_that_no_rule_matches_is_kept_whole() -> None:
    (found,) = run(rule("x", "p_chosen > 0.9", "drop"), {})
    assert not found["is_dropped"]
    assert (found["weight"], found["soft_label"], found["objective"], found["rules"]) == (1.0, None, None, [])


def test_a_drop_ends_and_later_rules_do_nothing() -> None:
    (found,) = run(
        rule("first", "true", "drop") + rule("second", "true", "reweight", weight="0.5"),
        {},
    )
    assert found["is_dropped"]
    assert found["weight"] == 0
    assert found["rules"] == ["first"]


def test_a_keep_protects_from_later_rules_only() -> None:
    rules = (
        rule("before", "true", "reweight", weight="0.5")
        + rule("gold", "num_votes_chosen = 3", "keep")
        + rule("after", "true", "drop")
    )
    kept, dropped = run(rules, {}, {"num_votes_chosen": 2})
    assert (kept["is_dropped"], kept["weight"], kept["rules"]) == (False, 0.5, ["before", "gold"])
    assert (dropped["is_dropped"], dropped["rules"]) == (True, ["before", "after"])


def test_weights_multiply_and_every_factor_is_recorded() -> None:
    rules = rule("half", "true", "reweight", weight="0.5") + rule("p", "true", "reweight", weight="p_chosen")
    (found,) = run(rules, {})
    assert found["weight"] == pytest.approx(0.375)
    assert found["amounts"] == [0.5, 0.75]
    assert found["actions"] == ["reweight", "reweight"]


def test_amounts_stand_beside_their_rules() -> None:
    rules = (
        rule("skipped", "false", "reweight", weight="7")
        + rule("turn", "true", "flip")
        + rule("soft", "true", "soft_label", soft_label="p_chosen")
    )
    (found,) = run(rules, {})
    assert found["rules"] == ["turn", "soft"]
    assert found["amounts"] == [None, 0.25]


def test_later_rules_see_a_flipped_pair_with_all_its_margins() -> None:
    seen = {
        "reference_margin": 2.0,
        "reference_margin_mean": 0.1,
        "reward_gap": -1.0,
        "rlhf_margin": 2.0 - 1 / 0.1,
        "p_chosen": 0.25,
        "p_flip": 0.8,
        "num_votes_chosen": 1,
        "num_votes_rejected": 3,
        "length_difference": -4,
        "beta_max": -math.inf,
    }
    seen["beta_max"] = math.inf  # the reference now prefers chosen
    checks = " and ".join(
        f"abs({name} - ({value})) < 1e-9" if math.isfinite(value) else f"{name} = 'infinity'::double"
        for name, value in seen.items()
    )
    ids = "chosen_id = ''l'' and rejected_id = ''w'' and not is_reference_wrong and not is_assumption_held"
    condition = f"{checks} and {ids}".replace("''", "'")
    text = (
        f'[[rule]]\nname = "flip"\nwhen = "true"\naction = "flip"\n[[rule]]\nname = "seen"\nwhen = """{condition}"""\n'
    )
    (found,) = run(text + 'action = "reweight"\nweight = 0.5\n', {})
    assert found["rules"] == ["flip", "seen"]
    assert found["is_flipped"]


def test_two_flips_put_a_pair_back() -> None:
    rules = rule("one", "true", "flip") + rule("two", "p_chosen < 0.5", "flip") + rule("x", "p_chosen = 0.75", "drop")
    (found,) = run(rules, {})
    assert not found["is_flipped"]
    assert found["rules"] == ["one", "two", "x"]


def test_a_flip_turns_a_soft_label_round_and_one_after_it_stays() -> None:
    soft = rule("soft", "true", "soft_label", soft_label="0.9")
    flip = rule("flip", "p_flip > 0.1", "flip")
    (before,) = run(soft + flip, {})
    (after,) = run(flip + soft, {})
    assert before["soft_label"] == pytest.approx(0.1)
    assert after["soft_label"] == pytest.approx(0.9)


def test_the_orientation_that_is_kept_does_not_depend_on_the_names_of_votes() -> None:
    as_is, turned, flipped_pair = run(
        rule("flip", "p_flip > 0.5", "flip"), {}, {"chosen_id": "l", "rejected_id": "w"}, {"p_flip": 0.9}
    )
    assert [pair["is_chosen_lower"] for pair in (as_is, turned, flipped_pair)] == [False, True, True]


def test_rules_see_their_own_beta_and_parameters() -> None:
    rules = "beta = 0.5\n[parameters]\nfloor = 0.0\n" + rule("fails", "rlhf_margin <= floor", "drop")
    fails, holds = run(rules, {}, {"reward_gap": 1.01})
    assert (fails["is_dropped"], holds["is_dropped"]) == (True, False)  # -2 + 1 / 0.5 = 0


def test_a_null_condition_does_not_match_and_is_counted() -> None:
    con = duckdb.connect()
    con.execute(
        "create table pairs as select 'a' as pair_id, 'w' as chosen_id, 'l' as rejected_id, null::double as p_flip"
    )
    rules = parse_rules(rule("noise", "p_flip > 0.9", "drop"), origin="test")
    types = {"pair_id": "VARCHAR", "chosen_id": "VARCHAR", "rejected_id": "VARCHAR", "p_flip": "DOUBLE"}
    decide(con, compile_rules(rules, types), pairs="pairs", adjudicated=NONE)
    (count,) = count_rules(con, rules.rule)
    assert (count.num_matched, count.num_applied, count.num_unknown) == (0, 0, 1)


def test_routes_name_an_objective_and_the_last_one_counts() -> None:
    rules = rule("one", "true", "route", objective="dpo") + rule("two", "p_chosen > 0.7", "route", objective="ipo")
    a, b = run(rules, {}, {"p_chosen": 0.6})
    assert (a["objective"], b["objective"]) == ("ipo", "dpo")


def test_people_override_rules() -> None:
    human = (
        "select 'a' as pair_id, false as is_dropped, false as is_flipped, false as is_chosen_lower"
        " union all select 'b', true, false, true"
    )
    rules = rule("all", "true", "drop") + rule("w", "true", "reweight", weight="0.5")
    kept, dropped, ruled = run(rules, {}, {}, {}, adjudicated=human)
    assert (kept["is_dropped"], kept["weight"], kept["rules"]) == (False, 1.0, ["adjudication"])
    assert (dropped["is_dropped"], dropped["is_adjudicated"]) == (True, True)
    assert ruled["rules"] == ["all"]


def test_a_preview_counts_overlaps_and_the_weight_that_each_rule_removes() -> None:
    con = duckdb.connect()
    pairs = [{"pair_id": name, **BASE, "p_chosen": p} for name, p in (("a", 0.5), ("b", 0.75), ("c", 0.9))]
    con.register("pairs", pl.DataFrame(pairs).to_arrow())
    types = {str(row[0]): str(row[1]) for row in con.execute("describe pairs").fetchall()}
    rules = parse_rules(
        rule("half", "p_chosen < 0.8", "reweight", weight="0.5") + rule("low", "p_chosen < 0.6", "drop"), origin="test"
    )
    decide(con, compile_rules(rules, types), pairs="pairs", adjudicated=NONE)
    half, low = preview(con, rules.rule)
    assert (half.count.num_matched, half.count.num_alone, half.weight_removed) == (2, 1, 1.0)
    assert (low.count.num_matched, low.count.num_alone, low.weight_removed) == (1, 0, 0.5)
    assert half.examples == ("a", "b")


@pytest.mark.parametrize(
    ("when", "message"),
    [
        (
            "rlhf_margn < 0",
            r"rule 'x', when: there is no column or parameter 'rlhf_margn' \(did you mean rlhf_margin or",
        ),
        ("(select true)", "a sub-query is not allowed"),
        ("exists(select 1)", "a sub-query is not allowed"),
        ("p_chosen in (select 1)", "a sub-query is not allowed"),
        ("sum(p_chosen) > 1", "sum is an aggregate"),
        ("row_number() over () = 1", "a window function is not allowed"),
        ("len(read_text('x')) > 1", "read_text is a table function"),
        ("random() > 0.5", "random gives another answer on another day"),
        ("now() > '2020-01-01'", "now gives another answer on another day"),
        ("ago(interval 1 day) > '2020-01-01'", "ago: now|another answer on another day"),
        ("current_setting('threads') = '1'", "another answer on another day"),
        ("abss(p_chosen) > 1", r"there is no function 'abss' \(did you mean abs\?\)"),
        ("p_chosen", "is DOUBLE, not a condition"),
        ("chosen_id + 1 > 2", "does not type-check"),
        ("p_chosen >", "is not a SQL expression"),
        ("true) or (false", "is not a SQL expression"),
        ("true; drop table x", "is not a SQL expression"),
        ("true), (false", "is not one scalar expression|is not a SQL expression|ROW"),
        ("pairs.p_chosen > 1", "'pairs.p_chosen' is not a column"),
        ("*", "a star is not allowed"),
        ("$1", "a placeholder is not allowed"),
    ],
)
def test_expressions_are_checked_before_anything_runs(when: str, message: str) -> None:
    with pytest.raises(RuleError, match=message):
        run(rule("x", when, "drop"), {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("objective = 'dpoo'", r"test: there is no objective 'dpoo'; did you mean dpo\?"),
        ("betaa = 1", r"betaa: unknown key, did you mean beta\?"),
        ("beta = -1", "beta: Input should be greater than 0"),
        (rule("x", "true", "reweight"), r"rule 1 \(x\): reweight needs 'weight'"),
        (rule("x", "true", "drop", weight="1"), r"rule 1 \(x\): drop does not take 'weight'"),
        (rule("x", "true", "route", objective="dppo"), "no objective 'dppo'"),
        (rule("x", "true", "dropp"), r"rule 1 \(x\), action: Input should be 'drop'"),
        (rule("x", "true", "drop") * 2, "two rules are named 'x'"),
        (rule("x", "true", "drop").replace("when", "wen"), r"rule 1 \(x\)"),
        ("[parameters]\nbeta = 1", "beta is set at the top of the file"),
        ("[parameters]\np_chosen = 1\n", "parameter 'p_chosen' is also a column"),
        ("x = [", "is not valid TOML"),
    ],
)
def test_a_bad_rule_file_names_the_key(text: str, message: str) -> None:
    with pytest.raises(RuleError, match=message):
        run(text, {})


@pytest.mark.parametrize(
    ("action", "value", "message"),
    [
        ("reweight", "reference_margin", "is -2 on pair a and bad on 1 pair"),
        ("reweight", "exp(1000 * p_chosen)", "is inf on pair a"),
        ("reweight", "null::double", "is NULL on pair a"),
        ("soft_label", "p_chosen * 2", "is 1.5 on pair a"),
    ],
)
def test_weights_and_soft_labels_that_no_loss_can_use_are_refused(action: str, value: str, message: str) -> None:
    field = "weight" if action == "reweight" else "soft_label"
    with pytest.raises(RuleError, match=message):
        run(rule("x", "true", action, **{field: value}), {})


def test_objectives_are_those_of_the_trainer() -> None:
    assert sorted(OBJECTIVES) == sorted(objective.value for objective in Objective)


@pytest.fixture(scope="module")
def diagnostics_columns(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    with Lake.create(tmp_path_factory.mktemp("lake"), LakeSettings()) as lake:
        rows = lake.con.execute("describe mart.pair_diagnostics").fetchall()
    return {str(row[0]): str(row[1]) for row in rows}


@pytest.mark.parametrize("name", profiles())
def test_every_profile_compiles_over_the_real_columns_and_says_when_to_use_it(
    name: str, diagnostics_columns: dict[str, str]
) -> None:
    rules = load_rules(name)
    assert compile_rules(rules, diagnostics_columns).columns
    assert len(rules.description.split()) > 30


@pytest.mark.parametrize("profile", profiles())
def test_no_profile_ever_drops_a_split_of_taste(profile: str, diagnostics_columns: dict[str, str]) -> None:
    known = {"p_flip": "0.99", "is_tied": "true", "is_identical": "false", "is_empty": "false", "is_truncated": "false"}
    known |= {"num_votes": "4", "num_votes_chosen": "2", "num_votes_rejected": "2", "p_chosen": "0.5"}
    cells = ", ".join(
        f"cast({known.get(name, 'null')} as {kind}) as {name}"
        for name, kind in diagnostics_columns.items()
        if name not in ("pair_id", "is_taste_split")
    )
    con = duckdb.connect()
    con.execute(f"create table pairs as select 'a' as pair_id, true as is_taste_split, {cells}")
    con.execute(f"insert into pairs by name select 'b' as pair_id, false as is_taste_split, {cells}")
    decide(con, compile_rules(load_rules(profile), diagnostics_columns), pairs="pairs", adjudicated=NONE)
    dropped = con.execute(f"select is_dropped from {DECIDED} order by pair_id").fetchall()
    # what is no split of taste is dropped for its even votes, but where these become a soft label
    assert dropped == [(False,), (profile != "uncertainty-aware",)]


@pytest.mark.parametrize(
    ("profile", "num_votes_chosen", "is_tied", "is_taste_split", "is_dropped"),
    [
        ("minimal", 2, False, None, True),
        ("minimal", 3, False, None, False),
        ("minimal", 3, True, None, True),
        ("minimal", 2, True, True, False),
        ("cpo", 2, True, None, True),
        ("cpo", 2, True, True, False),
        ("dpo-safe", 2, False, None, False),
        ("dpo-safe", 2, True, None, True),
        ("dpo-safe", 2, True, True, False),
        ("annotator-consensus", 2, True, None, True),
        ("annotator-consensus", 2, True, True, False),
        ("uncertainty-aware", 2, True, None, False),
    ],
)
def test_even_votes_and_an_even_posterior_are_what_each_profile_says_they_are(
    profile: str,
    num_votes_chosen: int,
    is_tied: bool,
    is_taste_split: bool | None,
    is_dropped: bool,
    diagnostics_columns: dict[str, str],
) -> None:
    pair: dict[str, Any] = {"pair_id": "a", "chosen_id": "l", "rejected_id": "r", "num_votes": 5, "p_chosen": 0.6}
    pair |= {"num_votes_chosen": num_votes_chosen, "num_votes_rejected": 2}
    pair |= {"is_tied": is_tied, "is_taste_split": is_taste_split}
    con = duckdb.connect()
    cells = ", ".join(f"${name}::{kind} as {name}" for name, kind in diagnostics_columns.items())
    con.execute(f"create table pairs as select {cells}", {name: pair.get(name) for name in diagnostics_columns})
    decide(con, compile_rules(load_rules(profile), diagnostics_columns), pairs="pairs", adjudicated=NONE)
    assert con.execute(f"select is_dropped from {DECIDED}").fetchall() == [(is_dropped,)]


@pytest.mark.parametrize("name", profiles())
def test_the_docs_tell_what_the_profile_itself_tells(name: str) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "rules.md").read_text(encoding="utf-8")
    assert " ".join(load_rules(name).description.split()) in page


def test_five_profiles_are_shipped() -> None:
    assert profiles() == ["annotator-consensus", "cpo", "dpo-safe", "minimal", "uncertainty-aware"]


def test_flipping_a_pair_twice_gives_every_column_back(diagnostics_columns: dict[str, str]) -> None:
    swapped = {name for name in diagnostics_columns if flipped(name) != f'"{name}"'}
    assert {"chosen_id", "reference_margin", "p_chosen", "p_flip", "beta_max", "is_chosen_refusal"} <= swapped
    renamed = {name: flipped(name).strip('"') for name in swapped if flipped(name).strip('"') in diagnostics_columns}
    assert all(flipped(other).strip('"') == name for name, other in renamed.items())
    left = {name for name in diagnostics_columns if {"chosen", "rejected"} & set(name.split("_"))} - swapped
    assert left == set()


def test_the_name_and_the_description_do_not_decide() -> None:
    one = parse_rules('name = "a"\n' + rule("x", "true", "drop"), origin="test")
    two = parse_rules('name = "b"\ndescription = "d"\n' + rule("x", "true", "drop", why="w"), origin="test")
    three = parse_rules(rule("x", "false", "drop"), origin="test")
    assert one.sha256 == two.sha256 != three.sha256
