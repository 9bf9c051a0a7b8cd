"""Print every response of HH's harmless test set that is taken for a refusal, to be judged by eye.

python -m tests.benchmarks.refusals
"""

from __future__ import annotations

import polars as pl

from curation.text_features import is_refusal
from tests.real_data import shared


def main() -> None:
    """One flagged response a line, its beginning; then their number and that of all."""
    pairs = pl.read_ndjson(shared("data/hh_rlhf/harmless-base-test.jsonl.gz"))
    answers = pl.concat([pairs["chosen"], pairs["rejected"].alias("chosen")]).to_frame("text")
    answers = answers.select(pl.col("text").str.extract(r"(?s).*\n\nAssistant:(.*)$").str.strip_chars()).unique()
    flagged = answers.filter(is_refusal(pl.col("text"))).sort("text")["text"]
    for number, text in enumerate(flagged, 1):
        print(number, " ".join(text.split())[:240])
    print(f"{len(flagged)} of {len(answers)} responses")


if __name__ == "__main__":
    main()
