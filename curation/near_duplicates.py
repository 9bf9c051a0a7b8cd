"""Texts that are nearly the same: MinHash candidates, verified by their exact Jaccard similarity, grouped.

Every text becomes a set of hashed shingles (:mod:`curation.shingles`) and a MinHash signature of ``BANDS * ROWS``
numbers; two texts whose signatures agree on a whole band are candidates. Two texts of similarity ``s`` become
candidates with probability ``1 - (1 - s ** ROWS) ** BANDS``: 0.998 at 0.8, 0.40 at 0.5, 0.04 at 0.3. All candidates are
verified, so what is reported is exact, and only recall depends on chance.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rensa import RMinHash
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from curation.shingles import jaccard, shingle_sets, word_shingles

THRESHOLD = 0.8
"""Jaccard similarity from which two texts are near-duplicates."""

BANDS, ROWS = 16, 5
WINDOW = 8
"""In a band, a text is compared with this many others at most, so that a phrase that millions share costs no more."""

_SEED = 11
_CHUNK = 10_000
_VERIFY_CHUNK = 5_000

Ints = NDArray[np.int64]


def near_duplicate_groups(
    items: pl.DataFrame, kind: Literal["prompt", "response"] = "response", *, threshold: float = THRESHOLD
) -> pl.DataFrame:
    """Groups of near-duplicates: what a chain of near-duplicate pairs connects.

    Args:
        items: ``item_id`` (unique), ``text``.
        kind: what the items are, written into every row.
        threshold: Jaccard similarity from which two texts are near-duplicates.

    Returns:
        The columns of ``raw.near_duplicates`` without ``run_id``, for the items that have a near-duplicate, sorted by
        ``item_id``. Texts without a word have none.
    """
    label = _groups(items["text"], threshold)
    found = pl.DataFrame({"item_id": items["item_id"], "label": label})
    found = found.filter(pl.len().over("label") > 1)
    return found.select(
        kind=pl.lit(kind, dtype=pl.String), item_id="item_id", group_id=pl.col("item_id").min().over("label")
    ).sort("item_id")


def _groups(texts: pl.Series, threshold: float) -> Ints:
    """A number for each text, the same for texts of one group.

    Candidates that are in one group already are not verified, so a text that was copied a million times costs a
    million comparisons and not their square.
    """
    keys, has_words = _band_keys(texts)
    label = np.arange(len(texts))

    def merge(left: Ints, right: Ints) -> None:
        nonlocal label
        is_near = _similarity(texts, left, right) >= threshold
        label = _merged(label, left[is_near], right[is_near])

    left, right, rows = _equal_signatures(keys, np.flatnonzero(has_words))
    merge(left, right)
    merge(*_unique([_neighbours(keys, rows, band, [1], label) for band in range(BANDS)], len(texts)))
    for band in range(BANDS):
        merge(*_unique([_neighbours(keys, rows, band, range(2, WINDOW + 1), label)], len(texts)))
    return label


def _band_keys(texts: pl.Series) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """One number a band for each text, equal where the signatures agree on the band; and which texts have words."""
    keys = np.empty((len(texts), BANDS), np.uint64)
    has_words = np.empty(len(texts), bool)

    def sign(start: int) -> None:
        part = slice(start, start + _CHUNK)
        shingles = word_shingles(texts[part])
        has_words[part] = shingles.counts > 0
        keys[part] = _fold(_signatures(shingles.hashes, shingles.offsets))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(sign, range(0, len(texts), _CHUNK)))
    return keys, has_words


def _signatures(hashes: NDArray[np.uint64], offsets: Ints) -> NDArray[np.uint32]:
    """MinHash signatures. Shape (num_texts, BANDS * ROWS)."""
    digests = RMinHash.digest_matrix_from_flat_token_hashes(hashes, offsets.astype(np.uint64), BANDS * ROWS, _SEED)
    count = (len(offsets) - 1) * BANDS * ROWS
    flat = np.fromiter(chain.from_iterable(digests.to_rows()), np.uint32, count=count)
    return flat.reshape(-1, BANDS * ROWS)


def _fold(signatures: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """Hash the rows of each band into one number. Shape (num_texts, BANDS)."""
    multipliers = np.random.default_rng(_SEED).integers(1, 1 << 63, ROWS, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    rows = signatures.reshape(-1, BANDS, ROWS).astype(np.uint64)
    folded = (rows * multipliers).sum(axis=2)
    return folded ^ (folded >> np.uint64(29))


def _equal_signatures(keys: NDArray[np.uint64], rows: Ints) -> tuple[Ints, Ints, Ints]:
    """Texts with the first one that has the same signature, and the rows of which each is the first."""
    if not len(rows):
        return rows, rows, rows
    whole = keys[rows] * (np.arange(BANDS, dtype=np.uint64) * np.uint64(2) + np.uint64(3))
    _, first, group = np.unique(np.bitwise_xor.reduce(whole, axis=1), return_index=True, return_inverse=True)
    leader = rows[first[group]]
    is_later = leader != rows
    return leader[is_later], rows[is_later], rows[~is_later]


def _neighbours(
    keys: NDArray[np.uint64], rows: Ints, band: int, steps: Iterable[int], label: Ints
) -> tuple[Ints, Ints]:
    """Rows of different groups that agree on a band: its keys are sorted, and rows some steps apart are joined.

    Equal keys are ordered by the next band, so that in a crowd the most alike stand together.
    """
    following = keys[rows, (band + 1) % BANDS]
    joined = pl.DataFrame({"key": keys[rows, band], "following": following, "row": rows, "label": label[rows]})
    joined = joined.filter(pl.col("key").is_duplicated()).sort("key", "following", "row")
    found = [(np.empty(0, np.int64), np.empty(0, np.int64))]
    for step in steps:
        other = pl.all().shift(-step).name.prefix("other_")
        together = joined.with_columns(other).filter(pl.col("key") == pl.col("other_key"))
        if together.is_empty():
            break
        apart = together.filter(pl.col("label") != pl.col("other_label"))
        found.append((apart["row"].to_numpy(), apart["other_row"].to_numpy()))
    left, right = (np.concatenate(side) for side in zip(*found, strict=True))
    return left, right


def _unique(pairs: Sequence[tuple[Ints, Ints]], count: int) -> tuple[Ints, Ints]:
    """Every pair of rows once, the lower row first."""
    left, right = (np.concatenate(side) for side in zip(*pairs, strict=True))
    codes = np.unique(np.minimum(left, right) * count + np.maximum(left, right))
    return codes // max(count, 1), codes % max(count, 1)


def _similarity(texts: pl.Series, left: Ints, right: Ints) -> NDArray[np.float64]:
    """Exact Jaccard similarity of each candidate pair; texts that belong together are read together."""
    similarity = np.empty(len(left))
    order = np.lexsort((right, left, _merged(np.arange(len(texts)), left, right)[left]))

    def verify(part: Ints) -> None:
        used, inverse = np.unique(np.concatenate([left[part], right[part]]), return_inverse=True)
        sets = shingle_sets(word_shingles(texts.gather(used)))
        similarity[part] = jaccard(sets, *np.split(inverse, 2))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(verify, _parts(order)))
    return similarity


def _parts(order: Ints) -> Iterator[Ints]:
    for start in range(0, len(order), _VERIFY_CHUNK):
        yield order[start : start + _VERIFY_CHUNK]


def _merged(label: Ints, left: Ints, right: Ints) -> Ints:
    """Labels from 0 after the groups of ``left[i]`` and ``right[i]`` became one."""
    count = int(label.max(initial=-1)) + 1
    links = sparse.csr_array((np.ones(len(left), np.int8), (label[left], label[right])), shape=(count, count))
    _, joined = connected_components(links, directed=False)
    return joined[label].astype(np.int64)
