"""How fast each engine was on a device: measured once by ``bench_engines``, kept for what is left to ``auto``."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import numpy as np

from curation.scoring.engine import Engine
from schemas.errors import ConfigError
from schemas.tokens import EncodedGroup

_PROMPT_LENGTH, _RESPONSE_LENGTH = 130, 60  # the shape of an HH pair
_BATCHES = 4  # forward passes, or engine steps, that are timed at least
_LEAST_GROUPS = 64


def rates_file() -> Path:
    """Where the rates are kept: ``$XDG_CACHE_HOME/winnow/engine_rates.json``."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "winnow" / "engine_rates.json"


def measured_rates(device: str) -> dict[str, float]:
    """Unique tokens a second of each engine on a device; empty without a measurement.

    Args:
        device: name of a GPU, or ``cpu``.

    Raises:
        ConfigError: the file of the rates cannot be read.
    """
    return _all_rates().get(device, {})


def _all_rates() -> dict[str, dict[str, float]]:
    path = rates_file()
    if not path.is_file():
        return {}
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return {device: {name: float(rate) for name, rate in rates.items()} for device, rates in kept.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{path} does not hold the rates of engines: {error}", mend="winnow doctor --bench MODEL writes it again"
        ) from error


def measure_rates(opening: Mapping[str, Callable[[], Engine]], *, vocab_size: int) -> dict[str, float]:
    """Time engines one after the other on random tokens in the shape of preference pairs.

    Args:
        opening: for each engine's name, what opens it; opening is not timed. One that turns out to compute as an
            earlier one did is left out.
        vocab_size: of the policy.

    Returns:
        Unique tokens a second, the better of two calls.
    """
    rates: dict[str, float] = {}
    known = set()
    for name, open_it in opening.items():
        with closing(open_it()) as engine:
            if engine.info in known:
                continue
            known.add(engine.info)
            groups = _sample(vocab_size, engine.batch_tokens)
            best = float("inf")
            for _ in range(2):
                started = time.perf_counter()
                engine.score(groups)
                best = min(best, time.perf_counter() - started)
            rates[name] = engine.counts.num_unique / 2 / best
    return rates


def keep_rates(rates: Mapping[str, float], device: str) -> None:
    """Keep the rates of a device for :func:`measured_rates`, beside those of other devices."""
    path = rates_file()
    try:
        others = _all_rates()
    except ConfigError:  # what cannot be read is written again
        others = {}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(others | {device: dict(rates)}, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)


def _sample(vocab_size: int, batch_tokens: int) -> list[EncodedGroup]:
    generator = np.random.default_rng(0)
    count = max(_LEAST_GROUPS, _BATCHES * batch_tokens // (_PROMPT_LENGTH + 2 * _RESPONSE_LENGTH))

    def tokens(count: int) -> list[int]:
        return [int(token) for token in generator.integers(0, vocab_size, count)]

    return [
        EncodedGroup(tokens(_PROMPT_LENGTH), [tokens(_RESPONSE_LENGTH), tokens(_RESPONSE_LENGTH)]) for _ in range(count)
    ]
