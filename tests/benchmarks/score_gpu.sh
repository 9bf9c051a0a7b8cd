#!/bin/sh
# Scoring on an NVIDIA GPU: a random 1B and 8B Llama shape, and every path; one JSON line each.
set -e
data=${1:-../shared/data/hh_rlhf/harmless-base-test.jsonl.gz}
tokenizer=${2:-../shared/models/tiny-en}
for shape in 1b 8b; do
    for path in pooling token-ids; do
        python -m tests.benchmarks.score --engine vllm --path "$path" --shape "$shape" --model "$tokenizer" \
            --data "$data" --pairs 4000 --max-length 2048 --repeats 3 | tail -n 1
    done
done
