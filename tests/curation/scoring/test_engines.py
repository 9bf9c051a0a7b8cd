"""``auto`` takes vLLM where it is installed, and transformers where it was measured as faster on a CPU."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from curation.scoring.engine_rates import keep_rates, measure_rates, measured_rates, rates_file
from curation.scoring.engines import available_engines, choose_engine, explain_choice
from curation.scoring.settings import ScoringSettings
from curation.scoring.transformers_engine import TransformersEngine
from schemas.errors import EngineError
from tests.curation.scoring.real_groups import tiny_policy, tiny_tokenizer


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)


def keep(**rates: float) -> None:
    rates_file().parent.mkdir()
    rates_file().write_text(json.dumps(rates))


def test_vllm_is_the_default_where_it_is_installed() -> None:
    assert available_engines()[0].is_available
    assert choose_engine(None) == choose_engine("auto") == "vllm"


@pytest.mark.parametrize(("transformers", "expected"), [(2.0, "transformers"), (0.5, "vllm")])
def test_on_a_cpu_the_faster_one_is_taken_and_the_figures_are_said(transformers: float, expected: str) -> None:
    keep(vllm=1000, transformers=1000 * transformers)
    name, reason = explain_choice()
    assert name == expected
    assert "vllm 1,000 tokens/s" in reason


def test_on_a_gpu_a_cpus_figures_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    keep(vllm=1, transformers=2)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert explain_choice()[0] == "vllm"


def test_an_engine_is_measured_and_kept() -> None:
    opening = {"transformers": partial(TransformersEngine, tiny_policy(), ScoringSettings())}
    rates = measure_rates(opening, vocab_size=len(tiny_tokenizer()))
    assert rates["transformers"] > 0
    assert measured_rates() == {}
    keep_rates(rates)
    assert measured_rates() == pytest.approx(rates)


@pytest.mark.parametrize("content", ["{", "[]", '{"vllm": null}', '{"vllm": "fast"}'])
def test_a_spoilt_file_of_rates_is_said_and_stops_nothing(content: str) -> None:
    rates_file().parent.mkdir()
    rates_file().write_text(content)
    name, reason = explain_choice()
    assert name == "vllm"
    assert "engine_rates.json does not hold the rates of engines" in reason


def test_an_engine_that_fails_while_it_is_timed_is_closed() -> None:
    class Failing:
        is_closed = False

        def score(self, groups: object) -> None:
            raise RuntimeError("no kernel")

        def close(self) -> None:
            self.is_closed = True

    engine = Failing()
    with pytest.raises(RuntimeError, match="no kernel"):
        measure_rates({"failing": lambda: engine}, vocab_size=100)  # type: ignore[dict-item,return-value]
    assert engine.is_closed


def test_an_unknown_engine_is_named() -> None:
    with pytest.raises(EngineError, match="no engine 'vlm'"):
        choose_engine("vlm")
