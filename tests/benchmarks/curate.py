"""Curate, compare and export at scale: ``python -m tests.benchmarks.curate [--pairs N] [--export-pairs N]``.

Makes two lakes in a temporary folder: one of N pairs for curating and comparing, one with texts for the export. The
last line is one JSON object; ``peak_gib`` is the resident memory of this process, which does not make the lakes.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flows.stages.compare import compare
from flows.stages.curate import curate
from flows.stages.export import export
from flows.workspace import Workspace
from tests.generated_lake import fill

SETTINGS = '[lake]\nmemory_limit = "7GB"\nthreads = 2\n'

RULES = """
objective = "cpo"
beta = 0.1
[parameters]
long = {long}
[[rule]]
name = "identical"
when = "is_identical"
action = "drop"
[[rule]]
name = "empty"
when = "is_empty"
action = "drop"
[[rule]]
name = "tied"
when = "is_tied"
action = "drop"
[[rule]]
name = "truncated"
when = "is_truncated"
action = "drop"
[[rule]]
name = "gold"
when = "num_votes_chosen = num_votes and reference_margin > 10"
action = "keep"
[[rule]]
name = "noise"
when = "p_flip > 0.9"
action = "drop"
[[rule]]
name = "hopeless"
when = "reference_margin < -9 and p_chosen < 0.6"
action = "flip"
[[rule]]
name = "fails"
when = "rlhf_margin <= 0"
action = "reweight"
weight = "exp(greatest(rlhf_margin, -20))"
[[rule]]
name = "cycle"
when = "is_in_cycle"
action = "reweight"
weight = "0.5"
[[rule]]
name = "long"
when = "length_difference > long"
action = "reweight"
weight = "0.8"
[[rule]]
name = "unsure"
when = "p_chosen < 0.7"
action = "soft_label"
soft_label = "p_chosen"
[[rule]]
name = "easy"
when = "beta_max > 1 and p_chosen > 0.9"
action = "route"
objective = "dpo"
"""


def make(root: Path, *, pairs: int, with_text: bool) -> None:
    """Make a lake in a process of its own, so that its memory is not measured."""
    subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.curate", "--make", root, "--pairs", str(pairs)]
        + (["--with-text"] if with_text else []),
        check=True,
    )


def timed(seconds: dict[str, float], name: str, work: Callable[[], Any]) -> Any:
    """Run work, note its seconds and say so; the CPU seconds tell on a machine that does other things too."""
    start, cpu_start = time.perf_counter(), time.process_time()
    result = work()
    seconds[name] = round(time.perf_counter() - start, 2)
    cpu = name.replace("_seconds", "_cpu_seconds")
    seconds[cpu] = round(time.process_time() - cpu_start, 2)
    print(f"{name}: {seconds[name]} s, {seconds[cpu]} s of CPU", file=sys.stderr, flush=True)
    return result


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=10_000_000)
    parser.add_argument("--export-pairs", type=int, default=1_000_000)
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--with-text", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        Workspace.create(options.make)
        (options.make / "winnow.toml").write_text(SETTINGS, encoding="utf-8")
        with Workspace.open(options.make).lake() as lake:
            fill(lake, num_pairs=options.pairs // 3 * 3, with_text=options.with_text, repeat=6)
        return
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="winnow-benchmark-") as folder:
        facts = measure_curate(Path(folder), options.pairs, seconds)
        exported = measure_export(Path(folder), min(options.pairs, options.export_pairs), seconds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({**seconds, "peak_gib": round(peak, 2), "pairs": facts["num_pairs"], **exported, **facts["size"]}))


def measure_curate(folder: Path, pairs: int, seconds: dict[str, float]) -> dict[str, Any]:
    """Curate twice with 12 rules and compare; then again after new votes on every pair."""
    root = folder / "curate"
    make(root, pairs=pairs, with_text=False)
    workspace = Workspace.open(root)
    before = stored_bytes(root)
    one, two = folder / "one.toml", folder / "two.toml"
    one.write_text(RULES.format(long=40), encoding="utf-8")
    two.write_text(RULES.format(long=20), encoding="utf-8")
    first = timed(seconds, "curate_seconds", lambda: curate(workspace, rules=str(one)))
    size = {"decisions_mib": round((stored_bytes(root) - before) / 2**20, 1)}
    before = stored_bytes(root)
    second = timed(seconds, "curate_again_seconds", lambda: curate(workspace, rules=str(two)))
    size["second_run_mib"] = round((stored_bytes(root) - before) / 2**20, 1)
    with workspace.lake(read_only=True) as lake:
        found = timed(seconds, "diff_seconds", lambda: compare(lake, first.run_id or "", second.run_id or ""))
    return {"num_pairs": first.facts["num_pairs"], "size": {**size, "diff_pairs": found.num_changed}}


def measure_export(folder: Path, pairs: int, seconds: dict[str, float]) -> dict[str, Any]:
    """Export pairs with their texts."""
    root = folder / "export"
    make(root, pairs=pairs, with_text=True)
    workspace = Workspace.open(root)
    curate(workspace, rules="minimal")
    report = timed(seconds, "export_seconds", lambda: export(workspace))
    return {"exported_pairs": report.num_changed, "export_mib": round(stored_bytes(Path(report.facts["path"])) / 2**20)}


def stored_bytes(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
