#!/bin/sh
# Everything about training that needs an NVIDIA GPU, in one command: sh tests/benchmarks/train_gpu.sh
# The gpu tests, then the benchmark against TRL at the shapes of 1B and 8B; each ends with one JSON line.
set -eu
cd "$(dirname "$0")/../.."
PYTHON="${PYTHON:-.venv/bin/python}"
"$PYTHON" -m pytest -q -m gpu tests/training
for shape in 1b 8b; do
    "$PYTHON" -m tests.benchmarks.train --json --shape "$shape" --device cuda --dtype bfloat16 --steps 10 --rounds 2 \
        --batch-size 16
done
