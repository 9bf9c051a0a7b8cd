"""The language of a text from its script and its commonest words: enough to see an answer in another language.

No model: letters outside Latin name a script, and a script names a language or a few; within Latin the commonest words
decide. Where the evidence is thin the answer is NULL, because a wrong language would accuse a good answer.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from curation.shingles import hash_words, word_hashes

_HEAD_CHARS = 1_000
_MIN_SCRIPT_LETTERS = 4
_MIN_STOP_WORDS = 3
_MIN_STOP_SHARE = 0.12
_MIN_LEAD = 1.5

_LETTERS = {
    "latin": r"\p{Latin}",
    "ja": r"[\p{Hiragana}\p{Katakana}]",
    "zh": r"\p{Han}",
    "ko": r"\p{Hangul}",
    "el": r"\p{Greek}",
    "he": r"\p{Hebrew}",
    "hi": r"\p{Devanagari}",
    "th": r"\p{Thai}",
    "cyrillic": r"\p{Cyrillic}",
    "arabic": r"\p{Arabic}",
}

_STOP_WORDS = {
    "en": "the of and to in a is that it was for on are as with his they be at have this from or had by but what "
    "all were we when your can said there use an each which she how their if will not you i do my would don't "
    "it's",
    "de": "der die und ist das nicht ein eine zu den mit sich auf für von dem auch als an werden aus er hat dass "
    "sie nach wird bei einer um am sind noch wie einem über ich wir oder aber wenn kann",
    "fr": "le la les et des un une est que qui dans pour pas sur plus par avec ce il sont au du ne se cette mais "
    "nous vous ou son je être ont aux leur elle c'est très",
    "es": "el la los las y que en un una es por con para no se del lo como más pero sus le ya o este sí porque esta "
    "entre cuando muy sin sobre también me hasta hay donde está",
    "it": "il di che e la un una per non sono con si da come lo gli le dei del della nel alla più anche ma ha "
    "questo se mi ho è essere molto perché",
    "pt": "o os as e que de em um uma é do da não para com por mais dos como mas foi ao ele das tem à seu sua ou "
    "ser quando muito há nos já está eu também você são",
    "nl": "de het een en van is dat op te in niet zijn met voor er maar om aan ook als dan wat bij of uit nog naar "
    "heeft hij wordt je ik deze kan",
    "sv": "och att det som en på är av för med till den har de inte om ett han men var jag sig från vi så kan när "
    "år under också nu",
    "pl": "i w nie na się że z do to jest jak o co po ale jego przez za tym od czy dla są może być już tylko ich przed",
    "tr": "ve bir bu da de için ile ne çok daha o olarak gibi ama var en mi kadar sonra olan değil ben sen",
}


def languages(texts: pl.Series) -> pl.Series:
    """ISO 639-1 code of each text's language, NULL where unsure. Judged by the first 1,000 characters."""
    heads = texts.str.slice(0, _HEAD_CHARS)
    letters = pl.DataFrame({name: heads.str.count_matches(pattern) for name, pattern in _LETTERS.items()})
    script = _main_script(letters)
    by_words = _latin_language(heads)
    named = pl.DataFrame({"head": heads, "script": script, "words": by_words})
    return named.select(
        pl.when(pl.col("script") == "latin")
        .then(pl.col("words"))
        .when(pl.col("script") == "cyrillic")
        .then(pl.when(pl.col("head").str.contains("[іїєґІЇЄҐ]")).then(pl.lit("uk")).otherwise(pl.lit("ru")))
        .when(pl.col("script") == "arabic")
        .then(pl.when(pl.col("head").str.contains("[پچژگ]")).then(pl.lit("fa")).otherwise(pl.lit("ar")))
        .otherwise(pl.col("script"))
        .alias("language")
    ).to_series()


def _main_script(letters: pl.DataFrame) -> pl.Series:
    """The script of most letters; kana make a text Japanese however many Han characters it has."""
    counts = letters.to_numpy().astype(np.int64)
    names = np.array(letters.columns)
    kana, han = letters.columns.index("ja"), letters.columns.index("zh")
    counts[:, kana] += np.where(counts[:, kana] * 10 >= counts[:, han], counts[:, han], 0)
    best = counts.argmax(axis=1)
    top = counts.max(axis=1, initial=0)
    is_clear = (top >= _MIN_SCRIPT_LETTERS) & (top * 2 > counts.sum(axis=1) - np.where(best == kana, counts[:, han], 0))
    return pl.Series(names[best]).set(pl.Series(~is_clear), None)


def _latin_language(heads: pl.Series) -> pl.Series:
    """The language whose commonest words make up most of the text, if it leads clearly."""
    rows = [(word, bit) for bit, words in enumerate(_STOP_WORDS.values()) for word in set(words.split())]
    vocabulary = pl.DataFrame(rows, schema=["word", "bit"], orient="row").group_by("word").agg(pl.col("bit"))
    hashes = hash_words(vocabulary["word"])
    masks = np.array([sum(1 << bit for bit in bits) for bits in vocabulary["bit"]], np.int64)
    order = np.argsort(hashes)
    hashes, masks = hashes[order], masks[order]

    words = word_hashes(heads)
    slot = np.searchsorted(hashes, words.hashes).clip(max=len(hashes) - 1)
    mask = np.where(hashes[slot] == words.hashes, masks[slot], 0)
    hits = np.empty((len(_STOP_WORDS), len(heads)))
    for bit in range(len(_STOP_WORDS)):
        total = np.concatenate([[0], np.cumsum((mask >> bit) & 1)])
        hits[bit] = total[words.offsets[1:]] - total[words.offsets[:-1]]
    first, second = np.partition(hits, -2, axis=0)[[-1, -2]]
    is_clear = (
        (first >= _MIN_STOP_WORDS)
        & (first >= _MIN_STOP_SHARE * words.counts)
        & (first >= _MIN_LEAD * np.maximum(second, 1))
    )
    best = np.array(list(_STOP_WORDS))[hits.argmax(axis=0)]
    return pl.Series(best).set(pl.Series(~is_clear), None)
