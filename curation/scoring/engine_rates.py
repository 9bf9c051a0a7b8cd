"""How fast each engine was on this machine: measured once by ``bench_engines``, kept for ``--engine auto``."""

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

_NUM_GROUPS, _PROMPT_LENGTH, _RESPONSE_LENGTH = 64, 130, 60  # the shape of an HH pair


def rates_file() -> Path:
    """Where the rates are kept: ``$XDG_CACHE_HOME/winnow/engine_rates.json``."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "winnow" / "engine_rates.json"


def measured_rates() -> dict[str, float]:
    """Unique tokens a second of each engine that was measured on this machine's CPU; empty without a measurement.

    Raises:
        ConfigError: the file of the rates cannot be read.
    """
    path = rates_file()
    if not path.is_file():
        return {}
    try:
        return {str(name): float(rate) for name, rate in json.loads(path.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{path} does not hold the rates of engines: {error}", mend="winnow doctor --bench MODEL writes it again"
        ) from error


def measure_rates(opening: Mapping[str, Callable[[], Engine]], *, vocab_size: int) -> dict[str, float]:
    """Time engines one after the other on random tokens in the shape of preference pairs.

    Args:
        opening: for each engine's name, what opens it; opening is not timed.
        vocab_size: of the policy.

    Returns:
        Unique tokens a second, the better of two calls.
    """
    groups = _sample(vocab_size)
    rates = {}
    for name, open_it in opening.items():
        with closing(open_it()) as engine:
            best = float("inf")
            for _ in range(2):
                started = time.perf_counter()
                engine.score(groups)
                best = min(best, time.perf_counter() - started)
            rates[name] = engine.counts.num_unique / 2 / best
    return rates


def keep_rates(rates: Mapping[str, float]) -> None:
    """Keep the rates of this machine's CPU for :func:`measured_rates`."""
    path = rates_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(rates, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)


def _sample(vocab_size: int) -> list[EncodedGroup]:
    generator = np.random.default_rng(0)

    def tokens(count: int) -> list[int]:
        return [int(token) for token in generator.integers(0, vocab_size, count)]

    return [
        EncodedGroup(tokens(_PROMPT_LENGTH), [tokens(_RESPONSE_LENGTH), tokens(_RESPONSE_LENGTH)])
        for _ in range(_NUM_GROUPS)
    ]
