"""Closed vocabularies that are stored in the lake."""

from __future__ import annotations

from enum import StrEnum


class Vote(StrEnum):
    """What an annotator said of two responses, in the order in which they were shown."""

    A = "a"
    B = "b"
    TIE = "tie"


class Action(StrEnum):
    """What a curation rule does to a pair."""

    DROP = "drop"
    FLIP = "flip"
    REWEIGHT = "reweight"
    SOFT_LABEL = "soft_label"
    ROUTE = "route"
    KEEP = "keep"


class Split(StrEnum):
    """The part of an export that a pair belongs to; whole prompt groups, never single pairs, are split."""

    TRAIN = "train"
    TEST = "test"
