"""Rows of a loop shared out among the threads of torch's OpenMP: these wait for work by spinning, and take the cores
from any other threads."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch

_PART = 1 << 18  # values below which a second thread costs more than it saves


@cache
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="winnow-kernel")


@cache
def _openmp() -> Any:
    """The OpenMP runtime that torch has loaded, its own or the system's, where that is GNU's; else None."""
    if not hasattr(os, "RTLD_NOLOAD"):
        return None
    for path in (*(Path(torch.__file__).parent / "lib").glob("libgomp*.so*"), "libgomp.so.1"):
        with suppress(OSError):  # not loaded
            return ctypes.CDLL(str(path), mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
    return None


def _leave_the_parents_threads() -> None:
    """A child has none of them, and GNU's OpenMP would wait for them."""
    global _openmp
    _threads.cache_clear()
    _openmp = cache(lambda: None)


os.register_at_fork(after_in_child=_leave_the_parents_threads)
_Work = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def in_parts(loop: Callable[..., None], num_rows: int, num_values: int, *arguments: Any) -> None:
    """Run a loop over all rows, in as many parts as pay, at most one for each of torch's threads."""
    parts = min(torch.get_num_threads(), num_rows, max(num_values // _PART, 1))
    if parts <= 1:
        loop(0, num_rows, *arguments)
        return
    starts = iter(range(parts))  # each is taken by one thread, however many come
    done: list[int] = []
    errors: list[BaseException] = []

    def work(_: Any = None) -> None:
        try:
            for part in starts:
                loop(num_rows * part // parts, num_rows * (part + 1) // parts, *arguments)
                done.append(part)
        except BaseException as error:  # noqa: BLE001 - C code calls this, through which nothing can be raised
            errors.append(error)

    if (openmp := _openmp()) is not None:
        openmp.GOMP_parallel(_Work(work), None, torch.get_num_threads(), 0)  # for fewer it would end the others
    else:
        others = [_threads(parts - 1).submit(work) for _ in range(parts - 1)]
        work()
        for other in others:
            other.result()
    if errors:
        raise errors[0]
    if len(done) < parts:
        raise KeyboardInterrupt  # it came before the work could catch it
