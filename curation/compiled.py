"""Compiling loops with numba, once for all processes where their machine code can be kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba

_OPTIONS: dict[str, Any] = {"nogil": True, "fastmath": {"reassoc", "contract"}, "error_model": "numpy"}


def compiled(loop: Callable[..., Any]) -> Any:
    """A loop as machine code that releases the interpreter lock.

    It is kept beside its source, or in the user's cache; where neither can be written, each process compiles anew.
    """
    try:
        return numba.njit(cache=True, **_OPTIONS)(loop)
    except RuntimeError:  # numba found no folder to keep it in
        return numba.njit(**_OPTIONS)(loop)
