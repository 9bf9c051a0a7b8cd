"""``winnow score`` that pauses before each shard but the first, so that a test can kill it between two of them."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from curation.scoring.transformers_engine import TransformersEngine
from flows.stages.score import score
from flows.workspace import Workspace

_score = TransformersEngine.score
_calls = 0


def _slow(self: TransformersEngine, groups: Any) -> Any:
    global _calls
    _calls += 1
    time.sleep(0 if _calls == 1 else 2)
    return _score(self, groups)


TransformersEngine.score = _slow  # type: ignore[method-assign]

if __name__ == "__main__":
    root, model = sys.argv[1:]
    score(Workspace.open(Path(root)), model=model, engine="transformers", dtype="float32", shard_tokens=800)
