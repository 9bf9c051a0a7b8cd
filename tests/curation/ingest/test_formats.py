"""Every format is recognised, and its rows become the judgments that they state."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from curation.ingest.formats.registry import detect, format_names
from tests.curation.ingest.reading import read_file, write_lines

Row = dict[str, Any]


def user(text: str) -> Row:
    return {"role": "user", "content": text}


def assistant(text: str) -> Row:
    return {"role": "assistant", "content": text}


Q = [user("Name a colour.")]


def check_detected(name: str, rows: list[Row]) -> None:
    found = detect(rows)
    assert found is not None
    assert found.name == name


def read(tmp_path: Path, name: str, rows: list[Row], **settings: Any) -> list[Row]:
    """Judgments of rows whose format is detected to be ``name``; nothing may go to quarantine."""
    check_detected(name, rows)
    judgments, quarantine = read_file(write_lines(tmp_path / "rows.jsonl", rows), **settings)
    assert quarantine == []
    return judgments


def votes(judgments: list[Row]) -> list[tuple[str, str, str]]:
    return sorted((each["response_a"], each["vote"], each["response_b"]) for each in judgments)


def messages(judgment: Row) -> list[Row]:
    return json.loads(judgment["messages"])


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Name a colour.", "chosen": "Red.", "rejected": "Four."},
        {"prompt": Q, "chosen": [assistant("Red.")], "rejected": [assistant("Four.")]},
        {"chosen": [*Q, assistant("Red.")], "rejected": [*Q, assistant("Four.")]},
        {"prompt": "Name a colour.", "chosen": [*Q, assistant("Red.")], "rejected": [*Q, assistant("Four.")]},
        {"prompt": Q, "chosen": [*Q, assistant("Red.")], "rejected": "Four."},
    ],
    ids=["text", "messages", "implicit prompt", "prompt repeated", "mixed"],
)
def test_trl(tmp_path: Path, row: Row) -> None:
    (judgment,) = read(tmp_path, "trl", [{**row, "topic": "colours"}])
    assert messages(judgment) == Q
    assert votes([judgment]) == [("Red.", "a", "Four.")]
    assert judgment["is_display_order_known"] is False
    assert json.loads(judgment["extra"]) == {"topic": "colours"}


def test_a_system_turn_before_the_repeated_prompt_is_kept(tmp_path: Path) -> None:
    whole = [{"role": "system", "content": "Be brief."}, *Q]
    row = {"prompt": "Name a colour.", "chosen": [*whole, assistant("Red.")], "rejected": [*whole, assistant("Four.")]}
    (judgment,) = read(tmp_path, "trl", [row])
    assert messages(judgment) == whole


def test_hh(tmp_path: Path) -> None:
    start = "\n\nHuman: Hi\n\nAssistant: Hello. Assistant: is what I am.\n\nHuman: Name a colour.\n\nAssistant:"
    (judgment,) = read(tmp_path, "hh", [{"chosen": f"{start} Red.", "rejected": f"{start} Red?\n\n"}])
    assert messages(judgment) == [user("Hi"), assistant("Hello. Assistant: is what I am."), user("Name a colour.")]
    assert votes([judgment]) == [("Red.", "a", "Red?")]


def test_hh_that_ends_with_the_human(tmp_path: Path) -> None:
    start = "\n\nHuman: Name a colour.\n\nAssistant:"
    row = {"chosen": f"{start} Red.\n\nHuman: Why?", "rejected": f"{start} Four."}
    _, quarantine = read_file(write_lines(tmp_path / "rows.jsonl", [row]), format="hh")
    assert quarantine[0]["reason"] == "ends_with_user"


def test_hh_that_is_no_transcript(tmp_path: Path) -> None:
    rows = [
        {"chosen": "Red.", "rejected": "Four."},
        {"chosen": "Well\n\nAssistant: a", "rejected": "Well\n\nAssistant: b"},
    ]
    _, quarantine = read_file(write_lines(tmp_path / "rows.jsonl", rows), format="hh")
    assert [each["reason"] for each in quarantine] == ["bad_transcript", "bad_transcript"]


def test_ultrafeedback_binarized(tmp_path: Path) -> None:
    row = {
        "prompt": "Name a colour.", "prompt_id": "p1", "chosen": [*Q, assistant("Red.")],
        "rejected": [*Q, assistant("Four.")], "messages": [*Q, assistant("Red.")], "score_chosen": 8.5,
        "score_rejected": 3.0,
    }  # fmt: skip
    (judgment,) = read(tmp_path, "ultrafeedback-binarized", [row])
    assert messages(judgment) == Q
    assert votes([judgment]) == [("Red.", "a", "Four.")]
    assert judgment["strength"] == 5.5
    assert json.loads(judgment["extra"]) == {"prompt_id": "p1"}


def test_distilabel_pairs_with_system_models_and_a_tie(tmp_path: Path) -> None:
    row = {
        "system": "Be brief.", "instruction": "Name a colour.", "chosen": "Red.", "rejected": "Blue.",
        "chosen_rating": 4, "rejected_rating": 4, "chosen_model": "m1", "rejected_model": "m2",
    }  # fmt: skip
    (judgment,) = read(tmp_path, "ultrafeedback-binarized", [row])
    assert messages(judgment) == [{"role": "system", "content": "Be brief."}, *Q]
    assert votes([judgment]) == [("Red.", "tie", "Blue.")]
    assert (judgment["model_a"], judgment["model_b"]) == ("m1", "m2")


def test_ultrafeedback_completions_make_all_pairs_overall_and_by_aspect(tmp_path: Path) -> None:
    def completion(text: str, overall: float, rating: str) -> Row:
        annotations = {"helpfulness": {"Rating": rating}, "honesty": {"Rating": "N/A"}}
        return {"model": f"m{text}", "response": text, "overall_score": overall, "annotations": annotations}

    completions = [completion("Red.", 8, "4"), completion("Blue.", 8, "2"), completion("Four.", 1, "1")]
    judgments = read(tmp_path, "ultrafeedback", [{"instruction": "Name a colour.", "completions": completions}])
    overall = [each for each in judgments if each["criterion"] == "overall"]
    assert votes(overall) == [("Blue.", "a", "Four."), ("Red.", "a", "Four."), ("Red.", "tie", "Blue.")]
    helpful = [each for each in judgments if each["criterion"] == "helpfulness"]
    assert {(each["response_a"], each["response_b"], each["strength"]) for each in helpful} == {
        ("Red.", "Blue.", 2.0), ("Red.", "Four.", 3.0), ("Blue.", "Four.", 1.0),
    }  # fmt: skip
    assert len(judgments) == 6
    assert {each["annotator_kind"] for each in judgments} == {"model"}


def test_ratings_within_the_threshold_tie(tmp_path: Path) -> None:
    row = {"instruction": "Name a colour.", "generations": ["Red.", "Four."], "ratings": [4.0, 3.5],
           "generation_models": ["m1", "m2"]}  # fmt: skip
    (judgment,) = read(tmp_path, "distilabel", [row], tie_threshold=0.5)
    assert judgment["vote"] == "tie"
    (judgment,) = read(tmp_path, "distilabel", [row], tie_threshold=0.4)
    assert (judgment["vote"], judgment["model_b"]) == ("a", "m2")


def test_a_completion_without_rating_has_its_reason(tmp_path: Path) -> None:
    row = {"instruction": "Name a colour.", "generations": ["Red.", "Four."], "ratings": [4.0, None]}
    judgments, quarantine = read_file(write_lines(tmp_path / "rows.jsonl", [row]))
    assert judgments == []
    assert [each["reason"] for each in quarantine] == ["bad_rating"]


def test_nemo_rl(tmp_path: Path) -> None:
    row = {"context": Q, "completions": [
        {"rank": 1, "completion": [assistant("Four.")]}, {"rank": 0, "completion": [assistant("Red.")]},
    ]}  # fmt: skip
    (judgment,) = read(tmp_path, "nemo-rl", [row])
    assert messages(judgment) == Q
    assert votes([judgment]) == [("Four.", "b", "Red.")]


def test_nectar(tmp_path: Path) -> None:
    answers = [{"answer": text, "model": f"m{i}", "rank": rank} for i, (text, rank) in
               enumerate([("Red.", 1.0), ("Blue.", 2.0), ("Four.", 2.0)])]  # fmt: skip
    prompt = "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: Name a colour.\n\nAssistant: "
    judgments = read(tmp_path, "nectar", [{"prompt": prompt, "answers": answers}])
    assert messages(judgments[0]) == [user("Hi"), assistant("Hello."), *Q]
    assert votes(judgments) == [("Blue.", "tie", "Four."), ("Red.", "a", "Blue."), ("Red.", "a", "Four.")]


def test_helpsteer_pairs_the_responses_of_a_prompt_wherever_they_stand(tmp_path: Path) -> None:
    def row(prompt: str, response: str, helpfulness: int, verbosity: int) -> Row:
        same = {"correctness": 3, "coherence": 3, "complexity": 1}
        return {"prompt": prompt, "response": response, "helpfulness": helpfulness, "verbosity": verbosity, **same}

    rows = [row("Name a colour.", "Red.", 4, 1), *(row(f"Q{i}", f"A{i}", 1, 1) for i in range(20)),
            row("Name a colour.", "Four.", 1, 2)]  # fmt: skip
    check_detected("helpsteer", rows)
    judgments, quarantine = read_file(write_lines(tmp_path / "rows.jsonl", rows))
    assert {(each["criterion"], each["vote"], each["strength"]) for each in judgments} == {
        ("helpfulness", "a", 3.0), ("verbosity", "b", 1.0), ("correctness", "tie", 0.0), ("coherence", "tie", 0.0),
        ("complexity", "tie", 0.0),
    }  # fmt: skip
    assert {(each["response_a"], each["response_b"], each["source_row"]) for each in judgments} == {
        ("Red.", "Four.", 0)
    }
    assert {each["reason"] for each in quarantine} == {"unpaired"}
    assert sorted(each["source_row"] for each in quarantine) == list(range(1, 21))


def test_kto_pairs_a_true_and_a_false_label_of_one_prompt(tmp_path: Path) -> None:
    rows = [
        {"prompt": "Name a colour.", "completion": "Four.", "label": False},
        {"prompt": "Name a tree.", "completion": "Oak.", "label": True},
        {"prompt": "Name a colour.", "completion": "Red.", "label": True},
        {"prompt": "Name a colour.", "completion": "Blue.", "label": True},
    ]
    check_detected("kto", rows)
    judgments, quarantine = read_file(write_lines(tmp_path / "rows.jsonl", rows))
    assert votes(judgments) == [("Four.", "b", "Blue."), ("Four.", "b", "Red.")]
    assert [(each["source_row"], each["reason"]) for each in quarantine] == [(1, "unpaired")]


def test_llama_factory_alpaca(tmp_path: Path) -> None:
    row = {
        "instruction": "Name one:", "input": "a colour", "chosen": "Red.", "rejected": "Four.", "system": "Be brief.",
        "history": [["Hi", "Hello."]],
    }  # fmt: skip
    (judgment,) = read(tmp_path, "llama-factory-alpaca", [row])
    assert messages(judgment) == [{"role": "system", "content": "Be brief."}, user("Hi"), assistant("Hello."),
                                  user("Name one:\na colour")]  # fmt: skip
    assert votes([judgment]) == [("Red.", "a", "Four.")]
    older = {"instruction": "Name a colour.", "input": "", "output": ["Red.", "Four."]}
    (judgment,) = read(tmp_path, "llama-factory-alpaca", [older])
    assert (messages(judgment), votes([judgment])) == (Q, [("Red.", "a", "Four.")])


def test_llama_factory_sharegpt_and_axolotl(tmp_path: Path) -> None:
    sharegpt = {
        "conversations": [{"from": "human", "value": "Name a colour."}], "system": "Be brief.",
        "chosen": {"from": "gpt", "value": "Red."}, "rejected": {"from": "gpt", "value": "Four."},
    }  # fmt: skip
    (judgment,) = read(tmp_path, "llama-factory-sharegpt", [sharegpt])
    assert messages(judgment) == [{"role": "system", "content": "Be brief."}, *Q]
    assert votes([judgment]) == [("Red.", "a", "Four.")]
    axolotl = {"messages": Q, "chosen": assistant("Red."), "rejected": assistant("Four.")}
    (judgment,) = read(tmp_path, "llama-factory-sharegpt", [axolotl])
    assert (messages(judgment), votes([judgment])) == (Q, [("Red.", "a", "Four.")])


def test_openrlhf(tmp_path: Path) -> None:
    (judgment,) = read(tmp_path, "openrlhf", [{"input": "Name a colour.", "chosen": "Red.", "rejected": "Four."}])
    assert messages(judgment) == Q


def test_argilla(tmp_path: Path) -> None:
    row = {
        "prompt": "Name a colour.", "response1": "Red.", "response2": "Four.", "metadata": {"set": 1},
        "preference.responses": ["response1", "response2", "tie"], "preference.responses.users": ["u1", "u2", "u3"],
        "preference.responses.status": ["submitted", "draft", "submitted"],
        "rank.responses": [[{"value": "response2", "rank": 1}, {"value": "response1", "rank": 2}]],
        "rank.responses.users": ["u1"], "rank.responses.status": ["submitted"],
    }  # fmt: skip
    judgments = read(tmp_path, "argilla", [row])
    assert sorted((each["criterion"], each["annotator_id"], each["vote"]) for each in judgments) == [
        ("preference", "u1", "a"), ("preference", "u3", "tie"), ("rank", "u1", "b"),
    ]  # fmt: skip
    assert json.loads(judgments[0]["extra"]) == {"set": 1}


def test_label_studio(tmp_path: Path) -> None:
    def annotation(by: Any, side: str, **more: Any) -> Row:
        result = [{"from_name": "pw", "to_name": "a,b", "type": "pairwise", "value": {"selected": side}}]
        return {"completed_by": by, "created_at": "2024-01-02T03:04:05Z", "result": result, **more}

    row = {"id": 7, "data": {"prompt": "Name a colour.", "answer1": "Red.", "answer2": "Four."}, "annotations": [
        annotation(1, "left"), annotation({"id": 2, "email": "x@example.org"}, "right"),
        annotation(3, "right", was_cancelled=True),
    ]}  # fmt: skip
    judgments = read(tmp_path, "label-studio", [row])
    assert sorted((each["annotator_id"], each["vote"]) for each in judgments) == [("1", "a"), ("x@example.org", "b")]
    assert judgments[0]["annotated_at"].isoformat() == "2024-01-02T03:04:05"


def test_multipref(tmp_path: Path) -> None:
    def annotation(worker: str, overall: str, helpful: str) -> Row:
        return {"evaluator": worker, "overall_pref": overall, "helpful_pref": helpful, "confidence": "sure"}

    row = {
        "prompt_id": "x", "text": "Name a colour.", "completion_a": "Red.", "completion_b": "Four.", "model_a": "m1",
        "model_b": "m2", "normal_worker_annotations": [annotation("n1", "A-is-clearly-better", "Tie")],
        "expert_worker_annotations": [annotation("e1", "B-is-slightly-better", "A-is-slightly-better")],
    }  # fmt: skip
    judgments = read(tmp_path, "multipref", [row])
    found = {(each["annotator_id"], each["batch"], each["criterion"], each["vote"], each["strength"])
             for each in judgments}  # fmt: skip
    assert found == {
        ("n1", "normal", "overall", "a", 2.0), ("n1", "normal", "helpful", "tie", None),
        ("e1", "expert", "overall", "b", 1.0), ("e1", "expert", "helpful", "a", 1.0),
    }  # fmt: skip


def test_alpaca_eval(tmp_path: Path) -> None:
    def row(preference: Any) -> Row:
        return {"instruction": "Name a colour.", "output_1": "Red.", "output_2": "Four.", "generator_1": "g1",
                "generator_2": "g2", "annotator": "alpaca_eval_gpt4", "preference": preference}  # fmt: skip

    judgments = read(tmp_path, "alpaca-eval", [row(each) for each in (1, 2.0, 1.5, 0, 1.75)])
    assert [(each["vote"], each["strength"]) for each in judgments] == [
        ("a", 1.0), ("b", 1.0), ("tie", 0.0), ("tie", None), ("b", 0.5),
    ]  # fmt: skip
    assert judgments[0]["annotator_id"] == "alpaca_eval_gpt4"


def test_arena_keeps_both_bad_and_sets_diverging_conversations_aside(tmp_path: Path) -> None:
    def battle(winner: str, a: list[str], b: list[str], **more: Any) -> Row:
        def talk(answers: list[str]) -> list[Row]:
            return [turn for i, answer in enumerate(answers) for turn in (user(f"Q{i}"), assistant(answer))]

        return {"model_a": "m1", "model_b": "m2", "winner": winner, "judge": "arena_user_1",
                "conversation_a": talk(a), "conversation_b": talk(b), "tstamp": 1700000000.5, **more}  # fmt: skip

    rows = [
        battle("model_b", ["Red."], ["Four."]), battle("tie (bothbad)", ["Ah."], ["Oh."]), battle("tie", ["x"], ["y"]),
        battle("model_a", ["x", "z"], ["y", "z2"]),
        battle("model_a", ["x", "z"], ["y", "z2"], turn=1, judge="gpt4_pair"),
    ]  # fmt: skip
    check_detected("arena", rows)
    judgments, quarantine = read_file(write_lines(tmp_path / "rows.jsonl", rows))
    assert [(each["vote"], each["is_both_bad"], each["annotator_kind"]) for each in judgments] == [
        ("b", False, "human"), ("tie", True, "human"), ("tie", False, "human"), ("a", False, "model"),
    ]  # fmt: skip
    assert judgments[0]["is_display_order_known"]
    assert (judgments[3]["response_a"], judgments[3]["batch"]) == ("x", "turn 1")
    assert [(each["source_row"], each["reason"]) for each in quarantine] == [(3, "multi_turn_battle")]


def test_crowd_kit(tmp_path: Path) -> None:
    rows = [{"worker": "w1", "left": "Red.", "right": "Four.", "label": label} for label in ("Red.", "Four.", "tie")]
    judgments = read(tmp_path, "crowd-kit", rows)
    assert [each["vote"] for each in judgments] == ["a", "b", "tie"]
    assert {each["messages"] for each in judgments} == {"[]"}
    (asked,) = read(tmp_path, "crowd-kit", [rows[0] | {"prompt": Q, "task": "t1", "speed": 4}])
    assert (asked["batch"], asked["annotator_kind"], json.loads(asked["extra"])) == ("t1", "human", {"speed": 4})
    assert "colour" in asked["messages"]


@pytest.mark.parametrize(
    ("prompt", "chosen", "rejected"),
    [
        (json.dumps(Q), "Red.", "Four."),
        (Q, [assistant("Red.")], [assistant("Four.")]),
    ],
    ids=["winnow", "hf-dataset"],
)
def test_winnows_own_export(tmp_path: Path, prompt: Any, chosen: Any, rejected: Any) -> None:
    row = {"pair_id": "p", "prompt_id": "i", "prompt_group_id": "g", "criterion": "tone", "prompt": prompt,
           "chosen": chosen, "rejected": rejected, "reference_chosen_logps": None, "weight": 0.5}  # fmt: skip
    (judgment,) = read(tmp_path, "winnow", [row])
    assert messages(judgment) == Q
    assert votes([judgment]) == [("Red.", "a", "Four.")]
    assert judgment["criterion"] == "tone"
    assert json.loads(judgment["extra"])["weight"] == 0.5


def test_winnows_own_export_of_pairs_without_a_prompt_and_with_a_bad_one(tmp_path: Path) -> None:
    row = {"pair_id": "p", "prompt_group_id": "g", "criterion": "tone", "chosen": "Red.", "rejected": "Four."}
    prompts = ["[]", [], None, "", json.dumps([{"role": "who", "content": "x"}])]
    rows = [row | {"prompt": prompt} for prompt in prompts]
    judgments, quarantine = read_file(write_lines(tmp_path / "rows.jsonl", rows), format="winnow")
    assert [(each["source_row"], each["messages"]) for each in judgments] == [(0, "[]"), (1, "[]")]
    assert [each["reason"] for each in quarantine] == ["missing_prompt", "missing_prompt", "unknown_role"]


def test_long_form_keeps_everything(tmp_path: Path) -> None:
    row = {
        "prompt": Q, "response_a": "Red.", "response_b": "Four.", "vote": "both_bad", "annotator_id": "w1",
        "strength": 2, "criterion": "tone", "annotated_at": "2024-01-02T03:04:05+02:00", "batch": "b7",
        "annotator_kind": "model", "model_a": "m1", "model_b": "m2", "source_split": "test",
    }  # fmt: skip
    (judgment,) = read(tmp_path, "long", [row])
    kept = {name: judgment[name] for name in row if name not in ("prompt", "vote", "annotated_at")}
    assert kept == {name: row[name] for name in kept}
    assert (judgment["vote"], judgment["is_both_bad"]) == ("tie", True)
    assert judgment["annotated_at"].isoformat() == "2024-01-02T01:04:05"
    assert judgment["is_display_order_known"]
    assert judgment["extra"] is None


def test_every_format_has_a_test() -> None:
    folder = Path(__file__).parent
    tests = "".join((folder / name).read_text() for name in ("test_formats.py", "test_real_sets.py"))
    assert [name for name in format_names() if f'"{name}"' not in tests] == []
