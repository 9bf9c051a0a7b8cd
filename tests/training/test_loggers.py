"""What TensorBoard and W&B hold of a run, read back from their files."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.training.running import make_plan, train_quietly
from training.clock import Clock

pytestmark = pytest.mark.slow


def test_tensorboard_by_default_has_every_metric(hh_export: Path, tmp_path: Path) -> None:
    result = train_quietly(hh_export, tmp_path / "out", max_steps=2, report_to=("tensorboard",), eval_steps=1)
    assert make_plan(hh_export).settings.model_fields["report_to"].default == ("tensorboard",)
    found: dict[tuple[str, int], float] = {}
    for file in (result.checkpoint / "runs").rglob("events.*"):
        events = EventAccumulator(str(file)).Reload()
        for tag in events.Tags()["scalars"]:
            found |= {(tag, event.step): event.value for event in events.Scalars(tag)}
    logged = 0
    for logs in result.log_history:
        for name, value in logs.items():
            if name in ("step", "epoch", "total_flos", "train_loss") or "train_runtime" in logs:
                continue
            tag = f"eval/{name.removeprefix('eval_')}" if name.startswith("eval_") else f"train/{name}"
            assert found[tag, int(logs["step"])] == pytest.approx(value, rel=1e-5), tag
            logged += 1
    assert logged > 60
    assert ("train/check_mean_difference", 0) in found
    assert {("eval/loss", step) for step in (0, 1, 2)} <= set(found)


LOGGED = """
import json, sys
from pathlib import Path
from tests.training.running import train_quietly
result = train_quietly(Path(sys.argv[1]), Path(sys.argv[2]), max_steps=2, report_to=("wandb",))
print(json.dumps(result.after))
"""


def wandb_records(file: Path) -> Iterator[Any]:
    """Records of W&B's transaction log: blocks of 32 KiB of pieces with checksum, length and kind, as in LevelDB."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, block = file.read_bytes(), 7, 1 << 15
    pieces = b""
    while at + 7 <= len(data):
        if block - at % block < 7:  # too little room for a piece is left empty
            at += block - at % block
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        pieces += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last of several
            yield Record.FromString(pieces)
            pieces = b""


@pytest.mark.parametrize("project", [None, "mine"])
def test_wandb_offline_lies_in_the_model_folder(hh_export: Path, tmp_path: Path, project: str | None) -> None:
    """Name and project of the run, and the figures of its last evaluation, from W&B's own file."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    env |= {"WANDB_MODE": "offline"} | ({} if project is None else {"WANDB_PROJECT": project})
    env |= {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    target = tmp_path / "out"

    def run(*arguments: str) -> str:
        command = [sys.executable, "-c", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, env=env, cwd=tmp_path).stdout

    after = json.loads(run(LOGGED, str(hh_export), str(target)).splitlines()[-1])
    (file,) = (target / "wandb").glob("offline-run-*/*.wandb")
    assert not (tmp_path / "wandb").exists()
    records = list(wandb_records(file))
    plan = make_plan(hh_export, max_steps=2, report_to=("wandb",))
    runs = [record.run for record in records if record.WhichOneof("record_type") == "run"]
    assert (runs[0].project, runs[0].display_name) == (project or "winnow", plan.training_run_id)
    rows = [
        {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for record in records
        if record.WhichOneof("record_type") == "history"
    ]
    assert any("train/loss" in row for row in rows)
    last = [row for row in rows if "eval/loss" in row][-1]
    assert {f"eval/{name}": value for name, value in after.items()}.items() <= last.items()


FILLED = """
import resource, signal, sys
from pathlib import Path
from schemas.errors import TrainingError
from tests.training.running import train_quietly
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
try:
    train_quietly(Path(sys.argv[1]), Path(sys.argv[2]), max_steps=4, save_steps=100, report_to=("tensorboard",))
except TrainingError as error:
    print(error.message, "/", error.mend)
"""


def test_logs_on_a_disk_that_takes_no_more(hh_export: Path, tmp_path: Path) -> None:
    """Files above 5,000 bytes fail to be written, which the event file comes to."""
    command = [sys.executable, "-c", FILLED, str(hh_export), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("files cannot be written to"), done.stderr[-3000:]
    assert "make room" in done.stdout


def test_the_clock_leaves_pauses_out() -> None:
    """Time is taken from what the block reports, not from the machine: a lap without work is shorter than its pause."""
    clock = Clock()
    clock.start()
    with clock.paused():
        sum(range(10_000_000))
    short = clock.lap()
    sum(range(10_000_000))
    assert clock.lap() > 10 * short
