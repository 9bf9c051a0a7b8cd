"""Which of how many processes this one is, as torchrun says. No torch here."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import traceback
from typing import NoReturn

from schemas.errors import EngineError, TrainingError
from training.settings import TrainSettings


def rank() -> int:
    """Number of this process; 0 is the one that writes and speaks."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def end_process(code: int | str | None) -> NoReturn:
    """End one of several processes that trained together, as ``sys.exit`` would, but without finalizing Python.

    A thread of gloo's drops the tensors of a collective some time after all have gone on, and takes the GIL for it.
    Where Python is finalizing by then, this aborts the process though its work is done (torch 2.13, Python 3.11).

    Args:
        code: as of ``sys.exit``; a text is printed and counts as 1.
    """
    status = code if isinstance(code, int) else int(code is not None)
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        if isinstance(code, str):
            print(code, file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:  # noqa: BLE001 - nothing is behind this to take it
        traceback.print_exc()
        status = status or 1
    finally:
        os._exit(status)


def check_processes(settings: TrainSettings, *, num_pairs: int) -> None:
    """Refuse more processes than there is work for, sharding over none, and steps before gradients are added up.

    Args:
        settings: how to train.
        num_pairs: pairs to train on.

    Raises:
        EngineError: sharding was asked for without torchrun.
        TrainingError: a process would have no pair of a step, or would step on its own gradients.
    """
    if settings.sharding == "fsdp" and "LOCAL_RANK" not in os.environ:
        raise EngineError(
            "train.sharding = 'fsdp' splits the model over the processes of torchrun, and there is one without it",
            mend="torchrun --nproc-per-node N $(which winnow) train ..., or set it to 'none'",
        )
    if settings.optimizer_in_backward and "LOCAL_RANK" in os.environ:
        raise TrainingError(
            "train.optimizer_in_backward steps before torchrun's processes add up their gradients",
            mend="start winnow train without torchrun, or set it to false",
        )
    if settings.batch_size < world_size():
        raise TrainingError(
            f"train.batch_size is {settings.batch_size}, and {world_size()} processes share each step's pairs",
            mend=f"set it to at least {world_size()}, or start fewer processes",
        )
    if num_pairs < world_size():
        raise TrainingError(
            f"there are {num_pairs} pairs to train on for {world_size()} processes", mend="start fewer processes"
        )
