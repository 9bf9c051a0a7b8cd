"""What one of several processes tells is of the pairs of all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.training.test_fsdp import torchrun

SCRIPT = """
import json, sys
from pathlib import Path
import numpy as np
import torch.distributed as dist
from schemas.errors import TrainingError
from tests.training.running import train_quietly
from tests.training.test_monitor import scores
from training.processes import end_process
from training.step_log import StepLog

export, folder = Path(sys.argv[1]), Path(sys.argv[2])
try:
    train_quietly(export, folder / "out", beta=1e42, max_steps=1, batch_size=16)
except TrainingError as error:
    message = str(error)
rank = dist.get_rank()
log = StepLog()
for row in (rank, 2 + rank):  # of the four pairs: 0 and 2 here, 1 and 3 there
    log.clock.start()
    log.take(np.array([row]), scores().take(np.array([row])), num_tokens=7 + rank)
rows, found, speed = log.lap(world_size=2)
right = bool((found.chosen_logps == scores().chosen_logps[rows]).all())
tokens = round(speed["tokens_per_s"] / speed["pairs_per_s"] * len(rows))
told = {"message": message, "rows": rows.tolist(), "is_right": right, "num_tokens": tokens, "is_empty": not log}
(folder / f"{rank}.json").write_text(json.dumps(told))
end_process(0)
"""


@pytest.mark.slow
def test_processes_tell_of_each_others_pairs(hh_export: Path, tmp_path: Path) -> None:
    """A gradient that is not finite is of the sixteen pairs of both; so are metrics and speed of steps."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = torchrun(script, str(hh_export), str(tmp_path))
    assert done.returncode == 0, done.stderr[-6000:]
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert first == second
    assert "the gradient is not finite at step 1 for pairs" in first["message"]
    assert "and 8 more" in first["message"]
    assert (first["rows"], first["is_right"], first["num_tokens"]) == ([0, 2, 1, 3], True, 7 + 7 + 8 + 8)
    assert first["is_empty"]
