"""What the texts alone say of a response and of a pair: length, emptiness, refusal, cut-off, language, similarity."""

from __future__ import annotations

import numpy as np
import polars as pl

from curation.languages import languages
from curation.shingles import jaccard, shingle_sets, word_shingles

NEAR_IDENTICAL = 0.8
"""Jaccard similarity from which two responses of a pair count as near-identical."""

_CHUNK_RESPONSES = 50_000

_REFUSAL_HEAD_CHARS = 240
_DENIED = (
    r"(?:help|assist|provide|answer|comply|support (?:you|that|this|any)|fulfil|do (?:that|this|it)|discuss|share|"
    r"give (?:you|out|any|that|this|an?|advice|instructions|information|medical|legal)|tell you|engage|participate|"
    r"write|create|generate|advise|recommend|condone|encourage|offer)"
)
_REFUSAL = "|".join(
    [
        r"\b(?:i|we) (?:really |just |simply )?(?:can't|cannot|can not|won't|will not|am unable to|am not able to) "
        rf"(?:really |just |ever |be able to )?{_DENIED}\b",
        r"\b(?:i'm|i am) (?:really |just )?(?:not able|unable|not comfortable|not going|not willing|not allowed|"
        rf"not permitted|not supposed) to (?:really |just |be )?{_DENIED}\b",
        r"\b(?:i'm|i am) (?:really |just )?not comfortable (?:with (?:that|this|your|helping|giving|answering)|doing|"
        r"giving|helping|answering|talking|discussing|providing)\b",
        r"\b(?:i|we) (?:don't|do not) (?:feel comfortable|think (?:i|we) (?:can|should) (?:help|answer|do|give))\b",
        r"\bas an? (?:ai|artificial intelligence|(?:large )?language model)\b.{0,80}"
        r"\b(?:can't|cannot|don't|do not|unable|not able|won't)\b",
        r"\b(?:against|violates?) (?:my|our) (?:guidelines|policy|policies|programming|principles|terms)\b",
        r"\bi (?:must|have to) (?:decline|refuse)\b",
    ]
)
_IDIOMS = r"\b(?:can't|cannot|can not) (?:recommend [^.!?]*\benough\b|help (?:but|it|\w+ing)\b)"
"""What sounds like a refusal and is none: 'I can't recommend it highly enough', 'I can't help but wonder'."""

_CUT_OFF_MIN_CHARS = 80
_SENTENCE_END = r"""[.!?…。！？؟।:;][\s"'”’»)\]*_`]*$"""
_CODE_FENCE = "```"


def response_features(responses: pl.DataFrame, prompts: pl.DataFrame) -> pl.DataFrame:
    """Text flags of every response.

    Args:
        responses: ``response_id``, ``prompt_id``, ``text``.
        prompts: ``prompt_id``, ``messages`` (canonical JSON); the prompts of the responses.

    Returns:
        The columns of ``raw.response_features`` without ``run_id``, in the order of ``responses``.
    """
    parts = [_response_features(part, prompts) for part in responses.iter_slices(_CHUNK_RESPONSES)]
    return pl.concat(parts) if parts else _response_features(responses, prompts)


def _response_features(responses: pl.DataFrame, prompts: pl.DataFrame) -> pl.DataFrame:
    asked = prompts.join(responses.select("prompt_id").unique(), on="prompt_id", how="semi")
    asked = asked.select("prompt_id", prompt_language=languages(prompt_texts(asked)["text"]))
    text = pl.col("text")
    stripped = text.str.strip_chars()
    flagged = responses.select(
        "response_id",
        "prompt_id",
        num_chars=text.str.len_chars().cast(pl.Int32),
        is_empty=stripped == "",
        is_refusal=is_refusal(text),
        is_cut_off=_is_cut_off(stripped),
        language=languages(responses["text"]),
    )
    known = flagged.join(asked, on="prompt_id", how="left", maintain_order="left")
    return known.select(
        "response_id",
        "num_chars",
        "is_empty",
        "is_refusal",
        "is_cut_off",
        "language",
        is_language_mismatch=pl.col("language") != pl.col("prompt_language"),
    )


def prompt_texts(prompts: pl.DataFrame) -> pl.DataFrame:
    """The words of each prompt: the contents of its messages, one a line.

    Args:
        prompts: ``prompt_id``, ``messages`` (canonical JSON).

    Returns:
        ``item_id`` (the prompt's id) and ``text``: what :func:`curation.near_duplicates.near_duplicate_groups` takes.
    """
    turn = pl.Struct({"role": pl.String, "content": pl.String})
    contents = pl.col("messages").str.json_decode(pl.List(turn)).list.eval(pl.element().struct.field("content"))
    return prompts.select(item_id="prompt_id", text=contents.list.join("\n"))


def is_refusal(text: pl.Expr) -> pl.Expr:
    """Whether the beginning says that the question will not be answered."""
    head = text.str.slice(0, _REFUSAL_HEAD_CHARS).str.to_lowercase().str.replace_all("[’ʼ]", "'")
    return head.str.replace_all(r"\s+", " ").str.replace_all(_IDIOMS, " ").str.contains(_REFUSAL)


def _is_cut_off(stripped: pl.Expr) -> pl.Expr:
    """Whether a text stops in the middle: an open code fence, or no end of a sentence after one that had an end.

    Lists, verse and names often end without a full stop, so the last line has to be a long one, and an earlier sentence
    has to show that the author does write full stops.
    """
    last_line = stripped.str.extract(r"([^\n]*)$")
    is_open = stripped.str.count_matches(_CODE_FENCE, literal=True) % 2 == 1
    is_prose = (stripped.str.len_chars() >= _CUT_OFF_MIN_CHARS) & stripped.str.contains(r"[.!?]\s+\S")
    stops = ~stripped.str.contains(_SENTENCE_END) & last_line.str.contains(r"[\p{L}\p{N},(\-–—]$")
    return is_open | (is_prose & stops & (last_line.str.count_matches(r"\S+") >= 5))


def pair_features(pairs: pl.DataFrame, responses: pl.DataFrame) -> pl.DataFrame:
    """How alike the two responses of every pair are.

    Args:
        pairs: ``pair_id``, ``response_x_id``, ``response_y_id``, in any order.
        responses: ``response_id``, ``prompt_id``, ``text``; every response of the pairs.

    Returns:
        The columns of ``raw.pair_features`` without ``run_id``, sorted by ``pair_id``.

    Raises:
        ValueError: a pair names a response that is not in ``responses``.
    """
    index = responses.select("response_id").with_row_index("row")
    located = pairs.select("pair_id", x="response_x_id", y="response_y_id")
    for side in ("x", "y"):
        located = located.join(index.rename({"response_id": side, "row": f"row_{side}"}), on=side, how="left")
    if located.select(pl.any_horizontal(pl.col("row_x", "row_y").is_null())).to_series().any():
        raise ValueError("a pair names a response that is not among the responses")
    order = _by_prompt(responses)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    x, y = place[located["row_x"].to_numpy()], place[located["row_y"].to_numpy()]
    similarity = np.empty(len(x))
    is_identical = np.empty(len(x), bool)
    by_place = np.argsort(np.minimum(x, y), kind="stable")
    for chunk in np.array_split(by_place, max(1, len(by_place) // _CHUNK_RESPONSES)):
        texts = responses["text"]
        used, inverse = np.unique(np.concatenate([x[chunk], y[chunk]]), return_inverse=True)
        similarity[chunk], is_identical[chunk] = _alike(texts.gather(order[used]), *np.split(inverse, 2))
    return located.select(
        "pair_id",
        is_identical=pl.Series(is_identical),
        response_similarity=pl.Series(similarity),
        is_near_identical=pl.Series(similarity >= NEAR_IDENTICAL),
    ).sort("pair_id")


def plain_text(text: pl.Expr) -> pl.Expr:
    """A text without leading and trailing white space, and with one space for every other run of it."""
    return text.str.strip_chars().str.replace_all(r"\s+", " ")


def _by_prompt(responses: pl.DataFrame) -> np.ndarray:
    """Rows in the order of their prompts, so that the responses of a chunk of pairs are few."""
    return responses.select(pl.arg_sort_by("prompt_id")).to_series().to_numpy().astype(np.int64)


def _alike(texts: pl.Series, left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Jaccard similarity of the shingles, and equality up to white space; equal texts have similarity 1."""
    plain = texts.to_frame("text").select(plain_text(pl.col("text"))).to_series()
    is_same = (plain.gather(left) == plain.gather(right)).to_numpy()
    sets = shingle_sets(word_shingles(texts))
    return np.where(is_same, 1.0, jaccard(sets, left, right)), is_same
