"""How a prompt and its responses become token ids. Scoring and training both come here, so they always agree.

The prompt is rendered and tokenized once, with the generation prompt; each response is the rest of the rendered
conversation, tokenized on its own, with the end of turn that the template writes. So all responses of a prompt share
exactly the same prompt tokens, which are the ones the policy sees when it generates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from schemas.errors import TokenError

Template = Literal["auto", "chat", "plain"]
Message = Mapping[str, str]


class Tokenizer(Protocol):
    """The part of a ``transformers`` tokenizer that is used here."""

    chat_template: Any
    bos_token_id: int | None
    eos_token_id: int | None
    eos_token: str | None

    def apply_chat_template(self, conversation: Any, **kwargs: Any) -> Any:
        """Render a conversation."""
        ...

    def __call__(self, text: Any, **kwargs: Any) -> Any:
        """Tokenize texts."""
        ...


@dataclass(frozen=True, slots=True)
class EncodedGroup:
    """One prompt with its responses as token ids; the first response token has index ``len(prompt_ids)``.

    ``prompt_ids`` is never empty, so every response token has a row that predicts it.
    """

    prompt_ids: list[int]
    response_ids: list[list[int]]


def encode_group(
    tokenizer: Tokenizer, prompt: Sequence[Message], responses: Sequence[str], *, template: Template = "auto"
) -> EncodedGroup:
    """Token ids of a prompt and of each of its responses.

    Args:
        tokenizer: of the policy that scores or is trained.
        prompt: messages with ``role`` and ``content``; may be empty for plain text.
        responses: the assistant's answers.
        template: ``chat`` uses the tokenizer's chat template; ``plain`` concatenates as for a base model (see
            :func:`plain_prompt`); ``auto`` is ``chat`` where the tokenizer has a template and the prompt a message.

    Raises:
        TokenError: the template is asked for and missing, or does not render the prompt as a prefix of the whole.
    """
    has_template = getattr(tokenizer, "chat_template", None) is not None
    if template == "chat" and not has_template:
        raise TokenError("the tokenizer has no chat template", mend="use template = 'plain' or add one")
    if template == "chat" or (template == "auto" and has_template and prompt):
        return _encode_chat(tokenizer, prompt, responses)
    return _encode_plain(tokenizer, prompt, responses)


def plain_prompt(prompt: Sequence[Message]) -> str:
    """Text of a prompt for a model without chat template.

    A single message is its own text; several turns are written as ``\\n\\nHuman: ...\\n\\nAssistant:``, the form of
    the HH transcripts, because a base model needs to see whose turn it is.
    """
    if len(prompt) <= 1:
        return "".join(message["content"] for message in prompt)
    names = {"user": "\n\nHuman: ", "assistant": "\n\nAssistant: ", "system": ""}
    return "".join(names[message["role"]] + message["content"] for message in prompt) + "\n\nAssistant:"


def _encode_chat(tokenizer: Tokenizer, prompt: Sequence[Message], responses: Sequence[str]) -> EncodedGroup:
    messages = [dict(message) for message in prompt]
    prompt_text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    suffixes = []
    for response in responses:
        whole = tokenizer.apply_chat_template([*messages, {"role": "assistant", "content": response}], tokenize=False)
        if not whole.startswith(prompt_text):
            raise TokenError(
                "the chat template does not render the prompt as a prefix of the conversation",
                mend="use a template whose generation prompt is what it writes before an assistant turn",
            )
        suffixes.append(whole[len(prompt_text) :])
    ids = tokenizer([prompt_text, *suffixes], add_special_tokens=False)["input_ids"]
    return EncodedGroup(_never_empty(tokenizer, ids[0]), ids[1:])


def _encode_plain(tokenizer: Tokenizer, prompt: Sequence[Message], responses: Sequence[str]) -> EncodedGroup:
    if tokenizer.eos_token_id is None:
        raise TokenError("the tokenizer has no end-of-sequence token", mend="set eos_token in tokenizer_config.json")
    ids = tokenizer([plain_prompt(prompt), *responses], add_special_tokens=False)["input_ids"]
    prompt_ids = ids[0] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id, *ids[0]]
    return EncodedGroup(_never_empty(tokenizer, prompt_ids), [[*each, tokenizer.eos_token_id] for each in ids[1:]])


def _never_empty(tokenizer: Tokenizer, prompt_ids: list[int]) -> list[int]:
    if prompt_ids:
        return prompt_ids
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if start is None:
        raise TokenError("an empty prompt needs a begin- or end-of-sequence token to start from")
    return [start]


def truncate_prompt_left(prompt_ids: list[int], response_ids: list[int], max_length: int) -> list[int] | None:
    """The prompt's last tokens that fit beside the response in ``max_length``; None where not even one fits."""
    room = max_length - len(response_ids)
    return prompt_ids[-room:] if room >= 1 else None
