#!/bin/sh
# Everything about training that needs an NVIDIA GPU, in one command: sh tests/benchmarks/train_gpu.sh
# The gpu tests, then the benchmark against TRL at the shapes of 1B and 8B; each ends with one JSON line.
set -eu
cd "$(dirname "$0")/../.."
PYTHON="${PYTHON:-.venv/bin/python}"
"$PYTHON" -m pytest -q -m gpu tests/training
shape() {
    "$PYTHON" -m tests.benchmarks.train --json --device cuda --dtype bfloat16 --rounds 2 --shape "$@"
}
shape 1b --steps 10 --batch-size 16
# a compiled layer costs the CPU less, which is what limits 1B, and keeps fewer activations
shape 1b --steps 10 --batch-size 16 --systems ours_shared trl_in_loop --compile
# TRL's activations of 16 pairs, and its hash of 8B weights, do not fit a GPU of 140 GB and a reader's patience
shape 8b --steps 5 --batch-size 8 --systems ours_shared trl_in_loop
shape 8b --steps 5 --batch-size 8 --systems ours_shared trl_in_loop --lora
# what steps within the backward pass save, beside all activations and beside those that cannot be recomputed
shape 8b --steps 5 --batch-size 8 --systems ours_shared trl_in_loop --optimizer-in-backward
shape 8b --steps 5 --batch-size 8 --systems ours_shared trl_in_loop --optimizer-in-backward --compile
shape 8b --steps 5 --batch-size 8 --systems ours_shared trl_in_loop --optimizer-in-backward --gradient-checkpointing
shape 8b --steps 5 --batch-size 32 --systems ours_shared
