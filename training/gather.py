"""The same objects on every process."""

from __future__ import annotations

from typing import Any, TypeVar

import torch

T = TypeVar("T")


def of_all_processes(own: T, *, world_size: int) -> list[T]:
    """What each process has, in their order; every process has to ask.

    Args:
        own: of this process, picklable.
        world_size: how many processes there are.
    """
    if world_size == 1:
        return [own]
    gathered: list[Any] = [None] * world_size
    torch.distributed.all_gather_object(gathered, own)
    return gathered
