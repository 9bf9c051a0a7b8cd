"""Why a row of the input, or a response, was set aside: the reason codes of ``raw.quarantine``."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """A reason code; :data:`MEANING` has the sentence that is stored with it."""

    # the row as text
    ROW_TOO_LARGE = "row_too_large"
    INVALID_UTF8 = "invalid_utf8"
    LONE_SURROGATE = "lone_surrogate"
    NOT_JSON = "not_json"
    NOT_AN_OBJECT = "not_an_object"
    DUPLICATE_KEYS = "duplicate_keys"
    BAD_CSV_ROW = "bad_csv_row"
    # the row as a record of its format
    NO_JUDGMENT = "no_judgment"
    BAD_TRANSCRIPT = "bad_transcript"
    UNKNOWN_REFERENCE = "unknown_reference"
    BAD_RATING = "bad_rating"
    UNPAIRED = "unpaired"
    MULTI_TURN_BATTLE = "multi_turn_battle"
    # prompt and responses
    MISSING_PROMPT = "missing_prompt"
    PROMPT_NOT_TEXT = "prompt_not_text"
    PROMPT_WITHOUT_USER = "prompt_without_user"
    PROMPT_MISMATCH = "prompt_mismatch"
    MISSING_RESPONSE = "missing_response"
    RESPONSE_NOT_TEXT = "response_not_text"
    EMPTY_RESPONSE = "empty_response"
    MULTI_TURN_RESPONSE = "multi_turn_response"
    ENDS_WITH_USER = "ends_with_user"
    MESSAGE_NOT_TEXT = "message_not_text"
    UNKNOWN_ROLE = "unknown_role"
    NESTED_JSON = "nested_json"
    NUL_CHARACTER = "nul_character"
    IDENTICAL_RESPONSES = "identical_responses"
    # the vote
    MISSING_VOTE = "missing_vote"
    BAD_VOTE = "bad_vote"
    BAD_STRENGTH = "bad_strength"
    BAD_TIME = "bad_time"
    BAD_ANNOTATOR_KIND = "bad_annotator_kind"
    # written by scoring
    TOO_LONG_TO_SCORE = "too_long_to_score"


MEANING: dict[Reason, str] = {
    Reason.ROW_TOO_LARGE: "the row is larger than ingest.max_row_bytes; the payload is its beginning",
    Reason.INVALID_UTF8: "the row is not valid UTF-8",
    Reason.LONE_SURROGATE: "the row has half of a surrogate pair (\\ud800 to \\udfff), which is no character",
    Reason.NOT_JSON: "the row is not valid JSON",
    Reason.NOT_AN_OBJECT: "the row is JSON, but not an object",
    Reason.DUPLICATE_KEYS: "the row or one of its messages has the same key twice, so one of the values would be lost",
    Reason.BAD_CSV_ROW: "the row does not have the columns of the CSV's header, or its quotes do not close",
    Reason.NO_JUDGMENT: "the row holds no judgment: no two responses, or no vote on them",
    Reason.BAD_TRANSCRIPT: "the text is not a transcript of '\\n\\nHuman:' and '\\n\\nAssistant:' turns",
    Reason.UNKNOWN_REFERENCE: "the row refers to a row of another table that is not there",
    Reason.BAD_RATING: "a rating or rank is not a number",
    Reason.UNPAIRED: "the file has no other response to this prompt that it could be compared with",
    Reason.MULTI_TURN_BATTLE: "the two conversations part before their last answers, so they are not one pair",
    Reason.MISSING_PROMPT: "there is no prompt, or it is empty",
    Reason.PROMPT_NOT_TEXT: "the prompt is neither text nor a list of messages",
    Reason.PROMPT_WITHOUT_USER: "the prompt has no user turn",
    Reason.PROMPT_MISMATCH: "chosen and rejected do not continue the same prompt",
    Reason.MISSING_RESPONSE: "a response is missing or null",
    Reason.RESPONSE_NOT_TEXT: "a response is neither text nor a list of messages",
    Reason.EMPTY_RESPONSE: "a response is empty or white space",
    Reason.MULTI_TURN_RESPONSE: "a response has several turns after the prompt",
    Reason.ENDS_WITH_USER: "the conversation does not end with the assistant",
    Reason.MESSAGE_NOT_TEXT: "a message has no text content",
    Reason.UNKNOWN_ROLE: "a message's role is not system, user or assistant",
    Reason.NESTED_JSON: "a text is itself a JSON list of messages",
    Reason.NUL_CHARACTER: "a text has a NUL character",
    Reason.IDENTICAL_RESPONSES: "both responses are the same text, so a vote between them says nothing",
    Reason.MISSING_VOTE: "there is no vote",
    Reason.BAD_VOTE: "the vote is not a, b, tie or both_bad",
    Reason.BAD_STRENGTH: "the strength is not a number",
    Reason.BAD_TIME: "the time is neither an ISO 8601 time nor seconds since 1970",
    Reason.BAD_ANNOTATOR_KIND: "the kind of annotator is neither human nor model",
    Reason.TOO_LONG_TO_SCORE: "the response alone is longer than the policy's context",
}
"""The sentence that is stored as ``raw.quarantine.detail``."""

USELESS = frozenset({Reason.IDENTICAL_RESPONSES, Reason.UNPAIRED, Reason.MULTI_TURN_BATTLE})
"""Rows that are as they should be and only of no use: they do not count towards ``ingest.max_quarantined_share``."""
