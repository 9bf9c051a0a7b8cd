"""How far an engine's log-probs lie from float32's, for ``NOISE_FLOOR``; the last line is one JSON object.

    python -m tests.benchmarks.noise --engine vllm --dtype bfloat16

1,057 responses of HH, BLiMP and fgrlhf under ``tiny-en``, against transformers in float32, one sequence at a time.
"""

from __future__ import annotations

import argparse
import json
import logging

import numpy as np

from curation.scoring import vllm_process
from curation.scoring.engines import open_engine
from curation.scoring.settings import ScoringSettings
from tests.curation.scoring.real_groups import exact_logps, exactness_groups, tiny_policy


def main() -> None:
    """Measure one engine in one dtype."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("vllm", "transformers"), default="vllm")
    parser.add_argument("--path", choices=("auto", "pooling", "token-ids", "flat"), default="auto")
    parser.add_argument("--dtype", default="bfloat16")
    options = parser.parse_args()
    groups = exactness_groups()
    engine = open_engine(options.engine, tiny_policy(), ScoringSettings(dtype=options.dtype, vllm_path=options.path))
    scores = [score for each in engine.score(groups) for score in each]
    sizes = np.array([score.num_tokens for score in scores])
    errors = np.array([score.logps for score in scores]) - np.concatenate(exact_logps())
    roots = errors / np.sqrt(sizes)
    floor = float(np.sqrt(np.mean(roots**2)))
    by_size = {
        f"{low}-{high}": float(f"{np.sqrt(np.mean(roots[(sizes >= low) & (sizes < high)] ** 2)):.3g}")
        for low, high in ((1, 16), (16, 64), (64, 10_000))
    }
    info = engine.info
    engine.close()
    print(
        json.dumps(
            {
                "engine": info.engine,
                "path": info.path,
                "dtype": info.dtype,
                "responses": len(errors),
                "noise_floor": float(f"{floor:.3g}"),
                "by_tokens": by_size,
                "bias_per_token": float(f"{errors.sum() / sizes.sum():.3g}"),
                "share_within_two": round(float(np.mean(np.abs(roots) < 2 * floor)), 4),
            }
        )
    )


if __name__ == "__main__":
    vllm_process.prepare_environment()
    logging.disable(logging.WARNING)
    main()
