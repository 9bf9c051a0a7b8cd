"""How a prompt and its responses become token ids. Scoring and training both come here, so they always agree.

The prompt is rendered and tokenized once, with the generation prompt; each response is the rest of the rendered
conversation, with the end of turn that the template writes. So all responses of a prompt share exactly the same prompt
tokens, which are the ones the policy sees when it generates. Where the tokenizer would merge characters across that
border for one of the responses, all of them are tokenized on their own; everywhere else the ids of the whole are the
tokenizer's own for the whole conversation. A template that asks for today's date is told a fixed one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, Protocol

from schemas.errors import TokenError
from schemas.model_identity import PINNED_DATE

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

    def get_added_vocab(self) -> dict[str, int]:
        """Tokens that are cut out of a text before anything is merged."""
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
    """Token ids of a prompt and of each of its responses; see :func:`encode_groups`."""
    return encode_groups(tokenizer, [(prompt, responses)], template=template)[0]


def encode_groups(
    tokenizer: Tokenizer,
    groups: Sequence[tuple[Sequence[Message], Sequence[str]]],
    *,
    template: Template = "auto",
) -> list[EncodedGroup]:
    """Token ids of many prompts and of each one's responses, in one call of the tokenizer.

    Args:
        tokenizer: of the policy that scores or is trained.
        groups: a prompt (messages with ``role`` and ``content``; may be empty for plain text) and its answers.
        template: ``chat`` uses the tokenizer's chat template, for every prompt that has a message: a text without one
            is no turn of a chat and stays plain; ``plain`` concatenates as for a base model (see
            :func:`plain_prompt`); ``auto`` is ``chat`` where the tokenizer has a template, else ``plain``.

    Raises:
        TokenError: the template is asked for and missing, does not take the conversation, or does not render the
            prompt as a prefix of the whole.
    """
    has_template = getattr(tokenizer, "chat_template", None) is not None
    if template == "chat" and not has_template:
        raise TokenError("the tokenizer has no chat template", mend="use template = 'plain' or add one")
    cuts = list(tokenizer.get_added_vocab()) if has_template else []
    texts: list[str] = []
    is_chat: list[bool] = []
    for prompt, responses in groups:
        is_chat.append(template != "plain" and has_template and bool(prompt))
        texts += _chat_texts(tokenizer, prompt, responses, cuts) if is_chat[-1] else [plain_prompt(prompt), *responses]
    ids = iter(tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else [])
    rest = iter(texts)
    encoded = []
    for (_, responses), chat in zip(groups, is_chat, strict=True):
        length = len(responses) + (2 if chat else 1)
        of_group = _chat_group if chat else _plain_group
        encoded.append(of_group(tokenizer, list(islice(rest, length)), list(islice(ids, length))))
    return encoded


def plain_prompt(prompt: Sequence[Message]) -> str:
    """Text of a prompt for a model without chat template.

    A single message is its own text; several turns are written as ``\\n\\nHuman: ...\\n\\nAssistant:``, the form of
    the HH transcripts, because a base model needs to see whose turn it is.

    Raises:
        TokenError: a message of several has a role that is none of user, assistant and system.
    """
    if len(prompt) <= 1:
        return "".join(message["content"] for message in prompt)
    names = {"user": "\n\nHuman: ", "assistant": "\n\nAssistant: ", "system": ""}
    unknown = [message["role"] for message in prompt if message["role"] not in names]
    if unknown:
        raise TokenError(f"a message of role {unknown[0]!r} has no plain form", mend="use a tokenizer with a template")
    return "".join(names[message["role"]] + message["content"] for message in prompt) + "\n\nAssistant:"


def _chat_texts(
    tokenizer: Tokenizer, prompt: Sequence[Message], responses: Sequence[str], cuts: Sequence[str]
) -> list[str]:
    """The prompt, its tail, then for each response the tail with what the template writes behind it.

    The tail begins at the last added token, where every tokenizer cuts, so its ids and what follows are the end of the
    whole conversation's ids without tokenizing the prompt again for each response.
    """
    messages = [dict(message) for message in prompt]
    text = _rendered(tokenizer, messages, add_generation_prompt=True)
    rests = []
    for response in responses:
        whole = _rendered(tokenizer, [*messages, {"role": "assistant", "content": response}])
        if not whole.startswith(text):
            raise TokenError(
                "the chat template does not render the prompt as a prefix of the conversation",
                mend="use a template whose generation prompt is what it writes before an assistant turn",
            )
        if len(whole) == len(text):
            raise TokenError("the chat template writes nothing for an answer", mend="use template = 'plain'")
        rests.append(whole[len(text) :])
    tail = text[max((text.rfind(cut) for cut in cuts if cut in text), default=0) :]
    return [text, tail, *(tail + rest for rest in rests)]


def _rendered(tokenizer: Tokenizer, messages: list[dict[str, str]], **options: bool) -> str:
    try:  # what is given here stands before the function of this name that transformers offers to templates
        return str(
            tokenizer.apply_chat_template(messages, tokenize=False, strftime_now=PINNED_DATE.strftime, **options)
        )
    except Exception as error:
        raise TokenError(
            f"the chat template does not take this conversation: {error}", mend="use template = 'plain'"
        ) from error


def _chat_group(tokenizer: Tokenizer, texts: list[str], ids: list[list[int]]) -> EncodedGroup:
    prompt_ids, tail, *both = ids
    is_clean = bool(tail) and all(each[: len(tail)] == tail and len(each) > len(tail) for each in both)
    if is_clean or not both:
        responses = [each[len(tail) :] for each in both]
    else:
        responses = tokenizer([text[len(texts[1]) :] for text in texts[2:]], add_special_tokens=False)["input_ids"]
    return EncodedGroup(_never_empty(tokenizer, prompt_ids), responses)


def _plain_group(tokenizer: Tokenizer, texts: list[str], ids: list[list[int]]) -> EncodedGroup:
    if tokenizer.eos_token_id is None:
        raise TokenError("the tokenizer has no end-of-sequence token", mend="set eos_token in tokenizer_config.json")
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
