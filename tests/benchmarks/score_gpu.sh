#!/bin/sh
# Scoring on an NVIDIA GPU: a random 1B and 8B Llama shape, and every engine and path; one JSON line each.
set -e
data=${1:-../shared/data/hh_rlhf/harmless-base-test.jsonl.gz}
tokenizer=${2:-../shared/models/tiny-en}
score() {
    python -m tests.benchmarks.score --shape "$shape" --model "$tokenizer" --data "$data" --pairs 4000 \
        --max-length 2048 --repeats 3 "$@" | tail -n 1
}
for shape in 1b 8b; do
    score --engine vllm --path pooling
    score --engine vllm --path token-ids
    score --engine transformers --trl-pairs 0 --skip-vllm
    score --engine transformers --trl-pairs 0 --skip-vllm --compile
done
