"""``auto`` takes vLLM where it is installed, and transformers where it was measured as faster on a CPU.

Layers are compiled where that was measured as faster.
"""

from __future__ import annotations

from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from curation.scoring.engine_rates import keep_rates, measure_rates, measured_rates, rates_file
from curation.scoring.engines import COMPILED, available_engines, choose_engine, explain_choice, open_engine
from curation.scoring.settings import ScoringSettings
from curation.scoring.transformers_engine import TransformersEngine
from schemas.errors import EngineError
from tests.curation.scoring.real_groups import tiny_policy, tiny_tokenizer


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)


def test_vllm_is_the_default_where_it_is_installed() -> None:
    assert available_engines()[0].is_available
    assert choose_engine(None) == choose_engine("auto") == "vllm"


@pytest.mark.parametrize(("transformers", "expected"), [(2.0, "transformers"), (0.5, "vllm")])
def test_on_a_cpu_the_faster_one_is_taken_and_the_figures_are_said(transformers: float, expected: str) -> None:
    keep_rates({"vllm": 1000, "transformers": 1000 * transformers}, "cpu")
    name, reason = explain_choice()
    assert name == expected
    assert "vllm 1,000 tokens/s" in reason


def test_on_a_gpu_a_cpus_figures_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    keep_rates({"vllm": 1, "transformers": 2}, "cpu")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "a GPU")
    assert explain_choice()[0] == "vllm"


@pytest.mark.parametrize(("compiled", "expected"), [(1.5, "transformers"), (1.05, "vllm")])
def test_a_gain_that_compiling_hardly_gives_does_not_count(compiled: float, expected: str) -> None:
    keep_rates({"vllm": 1030, "transformers": 1000, COMPILED: 1000 * compiled}, "cpu")
    assert explain_choice()[0] == expected


@pytest.mark.slow
@pytest.mark.parametrize(("compiled", "path"), [(1.5, "shared-compiled"), (1.05, "shared")])
def test_layers_are_compiled_where_that_was_measured_to_pay(compiled: float, path: str) -> None:
    keep_rates({"transformers": 1000, COMPILED: 1000 * compiled}, "cpu")
    with closing(open_engine("transformers", tiny_policy(), ScoringSettings(dtype="float32"))) as engine:
        assert engine.info.path == path


def test_rates_that_cannot_be_read_are_said_where_layers_might_be_compiled(caplog: pytest.LogCaptureFixture) -> None:
    rates_file().parent.mkdir()
    rates_file().write_text("{")
    with closing(open_engine("transformers", tiny_policy(), ScoringSettings(dtype="float32"))) as engine:
        assert engine.info.path == "shared"
    assert "layers are not compiled" in caplog.text


@pytest.mark.slow
def test_an_engine_is_measured_and_kept() -> None:
    opening = dict.fromkeys(("transformers", "again"), partial(TransformersEngine, tiny_policy(), ScoringSettings()))
    rates = measure_rates(opening, vocab_size=len(tiny_tokenizer()))
    assert list(rates) == ["transformers"], "what computes as another did is not timed again"
    assert rates["transformers"] > 0
    assert measured_rates("cpu") == {}
    keep_rates(rates, "cpu")
    keep_rates({"vllm": 1}, "a GPU")
    assert measured_rates("cpu") == pytest.approx(rates)
    assert measured_rates("a GPU") == {"vllm": 1}


@pytest.mark.parametrize("content", ["{", "[]", '{"vllm": 1}', '{"cpu": {"vllm": null}}', '{"cpu": {"vllm": "fast"}}'])
def test_a_spoilt_file_of_rates_is_said_and_stops_nothing(content: str) -> None:
    rates_file().parent.mkdir()
    rates_file().write_text(content)
    name, reason = explain_choice()
    assert name == "vllm"
    assert "engine_rates.json does not hold the rates of engines" in reason
    keep_rates({"vllm": 1}, "cpu")
    assert measured_rates("cpu") == {"vllm": 1}


def test_an_engine_that_fails_while_it_is_timed_is_closed() -> None:
    class Failing:
        info = None
        batch_tokens = 64
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
