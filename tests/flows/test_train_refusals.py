"""What ``winnow train`` refuses, it refuses in one line and before torch is imported."""

# ruff: noqa: F811
from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flows.workspace import Workspace
from tests.flows.winnow_process import winnow
from tests.training.conftest import hh_export, hh_rows, tiny_en, tokenizer  # noqa: F401
from tests.training.export_fixture import write_export

REFUSE = """
import json, sys
from flows.cli import main
sys.modules["bitsandbytes"] = sys.modules["wandb"] = None  # as if they were not installed
for arguments in json.loads(sys.argv[1]):
    try:
        main(arguments)
    except SystemExit as end:
        print(end.code)
print([name for name in ("torch", "transformers", "accelerate", "peft") if name in sys.modules])
"""


def refusals(*commands: list[str | Path]) -> tuple[list[str], list[str]]:
    """Lines on stderr, and on stdout: the exit codes, then the heavy libraries that were imported."""
    arguments = json.dumps([[str(each) for each in command] for command in commands])
    done = subprocess.run(
        [sys.executable, "-c", REFUSE, arguments],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin:/bin", "COLUMNS": "300", "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )
    return done.stderr.splitlines(), done.stdout.splitlines()


@pytest.mark.slow
def test_one_line_each_and_no_torch(
    hh_export: Path, hh_rows: list[dict[str, Any]], tiny_en: Path, tokenizer: Any, tmp_path: Path
) -> None:
    def workspace(name: str, toml: str = "") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "winnow.toml").write_text(toml)
        return Workspace.create(folder).root

    def export(name: str, *rows: dict[str, Any]) -> Path:
        return write_export(tmp_path / name, list(rows), hh_rows[:1], model=tiny_en, tokenizer=tokenizer)

    empty, weightless = export("empty"), export("zero", {**hh_rows[0], "weight": 0.0})
    soft, bare = export("soft", {**hh_rows[0], "soft_label": 0.5}), export("bare", {**hh_rows[0], "objective": "magic"})
    plain, here = workspace("plain"), ["--export", hh_export]
    cases: list[tuple[list[str | Path], str]] = [
        (["-w", plain], "the workspace has no export to train on; winnow export"),
        (["-w", plain, "--export", tmp_path / "nothing"], "is not an export: it holds no manifest.json; give"),
        (["-w", plain, *here, "--objective", "dop"], "there is no objective 'dop'"),
        (["-w", plain, *here, "--batch-size", "0"], "error: train.batch_size: Input should be greater than"),
        (["-w", plain, *here, "--model", tmp_path / "no-model"], f"there is no model folder {tmp_path}/no-model; give"),
        (["-w", plain, "--export", empty], "the export has no pairs"),
        (["-w", plain, "--export", weightless], "1 pair, and the weight of each is 0"),
        (["-w", plain, "--export", soft, "--objective", "rdpo"], "1 pair with a soft label, which has no meaning"),
        (["-w", plain, "--export", bare], "the export routes pairs to objective 'magic'"),
        (["-w", workspace("bnb", "[train]\noptimizer = 'adamw_8bit'"), *here], "'adamw_8bit' needs bitsandbytes"),
        (["-w", workspace("qlora", "[train.lora]\nquantize = '4bit'"), *here], "quantize = '4bit' needs bitsandbytes"),
        (["-w", workspace("wandb", "[train]\nreport_to = ['wandb']"), *here], "needs wandb, which is not installed"),
    ]
    lines, out = refusals(*[["train", *arguments] for arguments, _ in cases])
    assert len(lines) == len(cases), lines
    for line, (_, expected) in zip(lines, cases, strict=True):
        assert line.startswith("error: "), line
        assert expected in line
    assert out == ["2"] * len(cases) + ["[]"]


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("gamma = 1.0", "gamma has no meaning for objective kto"),
        ("length_normalized = true", "length_normalized has no meaning for objective kto"),
        ("optimizer_in_backward = true", "max_grad_norm 1 clips: set max_grad_norm = 0"),
    ],
)
def test_settings_that_contradict_each_other(key: str, expected: str, hh_export: Path, tmp_path: Path) -> None:
    (tmp_path / "winnow.toml").write_text(f"[train]\nobjective = 'kto'\n{key}\n")
    lines, out = refusals(["train", "-w", str(tmp_path), "--export", str(hh_export)])
    assert len(lines) == 1
    assert expected in lines[0]
    assert out == ["2", "[]"]


FAILS = """
import os, sys, time
import flows.cli
rank, flows.cli.PATIENCE_S = int(os.environ["RANK"]), float(sys.argv[1])
time.sleep(2 * (rank == 0))
flows.cli.main(sys.argv[2:])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "-w", "nowhere"], "error: "),
        (["train", "--epoch-s", "2"], "No such option"),
        (["--nonsense"], "No such option"),
        (["evaluate"], "Missing argument"),
    ],
)
def test_of_two_processes_the_first_prints_the_error_and_both_fail(
    arguments: list[str], said: str, tmp_path: Path
) -> None:
    """The second one, which is sooner there, waits until torchrun ends it; where nobody does, it prints its own."""
    (tmp_path / "fails.py").write_text(FAILS)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2]), "COLUMNS": "300"}
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    both, alone = (
        subprocess.run(
            [sys.executable, *command, str(tmp_path / "fails.py"), patience, *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=environment | own,
        )
        for command, patience, own in ((torchrun, "60", {}), ([], "0.1", {"RANK": "1"}))
    )
    assert both.returncode != 0
    assert both.stderr.count(said) == alone.stderr.count(said) == 1, both.stderr
    ends = dict(re.findall(r"rank *: (\d) .*\n *exitcode *: (-?\d+)", both.stderr))
    assert ends == {"0": "2", "1": str(-signal.SIGTERM)}
    assert alone.returncode == 2


def test_help_is_printed_by_the_first_process_alone() -> None:
    for arguments in (["train", "--help"], ["--version"]):
        said = [winnow(*arguments, env={"RANK": rank, "WORLD_SIZE": "2"}) for rank in ("0", "1")]
        assert [(done.returncode, bool(done.stdout)) for done in said] == [(0, True), (0, False)]
        assert [done.stderr for done in said] == ["", ""]
