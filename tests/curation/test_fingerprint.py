"""The hash of a set of decisions: pinned, and blind to order and batches only."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from curation.rules.fingerprint import fingerprint

SCHEMA = pa.schema({"pair": pa.string(), "flag": pa.bool_(), "number": pa.int64(), "weight": pa.float64()})
ROWS: list[dict[str, Any]] = [
    {"pair": "0123456789abcdef" * 2, "flag": True, "number": 3, "weight": 0.5},
    {"pair": "fedcba9876543210" * 2, "flag": False, "number": 0, "weight": None},
    {"pair": "né", "flag": None, "number": None, "weight": 0.0},
    {"pair": None, "flag": True, "number": -1, "weight": 1.0},
    {"pair": "", "flag": True, "number": -1, "weight": 1.0},
]


def of(rows: list[dict[str, Any]], size: int = 100) -> str:
    return fingerprint(pa.Table.from_pylist(rows, schema=SCHEMA).to_batches(max_chunksize=size))


def test_it_is_the_same_number_in_every_version() -> None:
    assert of(ROWS) == "9b711888beae90bdba1341725eecbdd0"


def test_splitmix64_gives_the_published_numbers() -> None:
    """First output of splitmix64 seeded with 0: the finalizer of the step."""
    import numpy as np

    from curation.rules.fingerprint import _STEP, _mix

    assert int(_mix(np.array([_STEP]))[0]) == 0xE220A8397B1DCDAF


def test_order_and_batches_do_not_matter() -> None:
    assert of(ROWS) == of(ROWS[::-1]) == of(ROWS, size=1) == of(ROWS[2:] + ROWS[:2], size=2)


def test_every_value_and_every_repetition_matters() -> None:
    changes = [{"pair": "x"}, {"flag": None}, {"number": 4}, {"weight": 0.25}, {"weight": None}]
    seen = {of(ROWS)} | {of([{**ROWS[0], **change}, *ROWS[1:]]) for change in changes}
    seen |= {of(ROWS[1:]), of([ROWS[0], *ROWS]), of([])}
    assert len(seen) == len(changes) + 4


def test_minus_zero_is_zero() -> None:
    assert of([{**ROWS[2], "weight": -0.0}]) == of([ROWS[2]])
