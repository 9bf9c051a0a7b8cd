"""How fast ingest is, how much memory it takes, and what ingesting the same files again costs.

``python -m tests.benchmarks.ingest --pairs 1000000`` writes that many pairs as HH transcripts and as long form (about
1 kB of text each), ingests each file in a process of its own, and then again. The last line is one JSON object; rate,
memory and share are those of the slower, larger and worse of the two formats.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import duckdb

_VOCABULARY = (
    "time year people way day man thing woman life child world school state family student group country problem hand"
    " part place case week company system program question work government number night point home water room mother"
    " area money story fact month lot right study book eye job word business issue side kind head house service friend"
    " father power hour game line end member law car city community name president team minute idea kid body"
)
_WORDS = _VOCABULARY.split()

_TEXTS = """
    select
        i,
        'Question ' || (i // 2) || ': ' || words(i // 2, 45) || '?' as question,
        'First, ' || words(i + 1000000007, 55) || '.' as good,
        'Second, ' || words(i + 2000000011, 55) || '.' as bad
    from range($first, $last) as numbers(i)
"""

_FORMATS = {
    "hh": r"""
        select
            e'\n\nHuman: ' || question || e'\n\nAssistant: ' || good as chosen,
            e'\n\nHuman: ' || question || e'\n\nAssistant: ' || bad as rejected
        from texts
    """,
    "long": """
        select question as prompt, good as response_a, bad as response_b, ['a', 'b', 'tie'][i % 3 + 1] as vote,
            'w' || (i % 500) as annotator_id, 'batch ' || (i // 10000) as batch
        from texts
    """,
}


def write_pairs(path: Path, name: str, num_pairs: int) -> None:
    """Write pairs of a format as JSON Lines; two pairs share a prompt."""
    with duckdb.connect(config={"memory_limit": "1GB"}) as con:
        con.execute(f"set variable vocabulary = {_WORDS!r}")
        con.execute(
            "create macro words(seed, n) as array_to_string(list_transform(range(n), lambda k: "
            f"getvariable('vocabulary')[(hash(seed, k) % {len(_WORDS)})::int + 1]), ' ')"
        )
        texts = _TEXTS.replace("$first", "0").replace("$last", str(num_pairs))
        con.execute(f"copy (with texts as ({texts}) {_FORMATS[name]}) to '{path}' (format json)")


def run(*command: str | Path) -> tuple[float, float, float]:
    """Seconds, seconds of all cores, and peak resident memory (GiB) of a command in a process of its own."""
    started = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "flows.cli", *map(str, command)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"winnow {' '.join(map(str, command))} failed")
    return time.monotonic() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / (1 << 20)


def measure(name: str, num_pairs: int, folder: Path) -> dict[str, Any]:
    """Ingest pairs of one format into a new workspace, twice."""
    path, workspace = folder / f"{name}.jsonl", folder / f"workspace-{name}"
    write_pairs(path, name, num_pairs)
    run("init", workspace)
    seconds, cpu_seconds, peak = run("ingest", "-w", workspace, path)
    again, again_cpu, _ = run("ingest", "-w", workspace, path)
    gigabytes = path.stat().st_size / 1e9
    path.unlink()
    return {
        "format": name, "gigabytes": round(gigabytes, 2), "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu_seconds, 1),
        "pairs_per_second": round(num_pairs / seconds), "peak_gib": round(peak, 2),
        "again_seconds": round(again, 1),
        "again_cpu_seconds": round(again_cpu, 1), "again_share": round(again / seconds, 3),
    }  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--format", choices=sorted(_FORMATS), action="append", help="Only these formats")
    arguments = parser.parse_args()
    results = []
    for name in arguments.format or sorted(_FORMATS):
        with tempfile.TemporaryDirectory(prefix="winnow-ingest-benchmark-") as folder:
            results.append(measure(name, arguments.pairs, Path(folder)))
        print(json.dumps(results[-1]))
    worst = {
        "pairs": arguments.pairs,
        "pairs_per_second": min(each["pairs_per_second"] for each in results),
        "peak_gib": max(each["peak_gib"] for each in results),
        "again_share": max(each["again_share"] for each in results),
    }
    print(json.dumps(worst))


if __name__ == "__main__":
    main()
