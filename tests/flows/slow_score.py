"""``winnow score`` that pauses before each shard but the first, so that a test can kill it between two of them."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from curation.scoring.isolation import PatientScorer
from flows.stages.score import score
from flows.workspace import Workspace

_score = PatientScorer.score
_calls = 0


def _slow(self: PatientScorer, groups: Any) -> Any:
    global _calls
    _calls += 1
    time.sleep(0 if _calls == 1 else 2)
    return _score(self, groups)


PatientScorer.score = _slow  # type: ignore[method-assign]

if __name__ == "__main__":
    root, model, engine = sys.argv[1:]
    score(Workspace.open(Path(root)), model=model, engine=engine, dtype="float32", shard_tokens=800)
