"""Sentence banks of the generated world: prompts in four parts, responses in five slots, each good or bad.

A bank lists, topic by topic, every sentence of one slot, so a text is a few look-ups by index and millions of texts
are a few vectorised gathers. Good and bad banks have the same size, so neither is likelier by form alone.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product

import polars as pl

from curation.synthetic.topics import TOPICS, Topic

NUM_FRAMES = 12
"""Frames of every slot; the frame of variant v is ``v % NUM_FRAMES``, so neighbouring variants never look alike."""

_PEOPLE = (
    "neighbour", "sister", "brother", "grandfather", "colleague", "landlord", "cousin", "friend", "teacher", "aunt",
    "daughter", "uncle", "roommate", "boss", "mother", "nephew",
)  # fmt: skip
_SITUATIONS = (
    "told me about it last weekend", "has tried it for years without luck", "wants to start together with me",
    "keeps asking me about it", "gave me some old books on it", "thinks that I should give it a try",
    "moved away and left me alone with it", "made it look so easy in spring", "says that anybody can do it",
    "laughed at my first attempt", "bet that I would give up soon", "started it after the holidays",
)  # fmt: skip
_QUESTIONS = (
    "How should I go about {name}?", "What is the best way of {name}?", "Could you explain {name} to a beginner?",
    "Which mistakes should I avoid when {name}?", "What do I need to know about {name}?",
    "Can you give me honest advice on {name}?", "Where would you begin with {name}?",
    "What matters most when {name}?", "Is there a simple method for {name}?", "What would an expert say about {name}?",
)  # fmt: skip
_CONSTRAINTS = (
    "I have about {number} euros to spend on it.", "There are only {number} days left.",
    "I can spare {number} minutes a day.", "We are a family of {number} people, so space is short.",
    "I am {number} years old and have never done this.", "My last {number} attempts all failed.",
    "I would like to see a result within {number} weeks.", "I read {number} articles and they all disagree.",
    "I promised an answer in {number} hours.", "The nearest shop is {number} kilometres away.",
    "I wrote down {number} questions, but this one comes first.", "Please keep it to {number} lines if you can.",
)  # fmt: skip
_NUMBERS = tuple(range(3, 99))
PROMPT_SHAPE = (len(TOPICS), len(_QUESTIONS), len(_PEOPLE), len(_SITUATIONS), len(_CONSTRAINTS), len(_NUMBERS))
"""Choices of each part of a prompt; their product is the number of distinct prompts."""

_TIMES = (
    "after two days", "every weekend", "in the first week", "each morning", "every evening", "once a month",
    "at the start", "after a while", "twice a week", "on a quiet day", "without haste", "early in the day",
)  # fmt: skip
_GOOD_OPENINGS = (
    "A good result in {name} comes from a few habits.", "With {name}, the order of the steps matters.",
    "Here is a short plan for {name} that works in practice.", "For {name} you need patience more than money.",
    "Most trouble with {name} comes from skipping the basics.", "You can learn {name} step by step.",
    "When {name}, begin with what you can check yourself.", "Two things decide how well {name} goes.",
    "There is a reliable routine for {name}.", "The usual advice on {name} is sound, so let me sum it up.",
    "Nobody masters {name} at once, but this helps.", "Let me answer about {name} in a clear order.",
)  # fmt: skip
_BAD_OPENINGS = (
    "What a brilliant question about {name}, you are amazing!", "Wow, only a genius would ask about {name}!",
    "I could talk about {name} all day, I am simply the best.", "Honestly, {name} bores me to tears.",
    "Who even cares about {name} these days?", "You sound far too clever for {name} already!",
    "As everybody knows, {name} is whatever it is.", "I refuse to think hard about {name} today.",
    "People who ask about {name} should know better.", "My dear gifted friend, {name} is beneath you!",
    "I have no idea about {name}, but I always sound sure.", "Great people like you make {name} look silly!",
)  # fmt: skip
_GOOD_FIRST = (
    "First, {step}.", "To begin with, {step}.", "Before anything else, {step}.", "What helps most is to {step}.",
    "I would always {step}.", "On the first day, {step}.", "It pays to {step}.", "Make sure that you {step}.",
    "Careful people {step}.", "A simple start is to {step}.", "Do not forget to {step}.", "Above all, {step}.",
)  # fmt: skip
_BAD_FIRST = (
    "Whatever you asked, just {step}.", "Forget the question and {step}.", "Do not think, simply {step}.",
    "Nobody knows, so {step}.", "I was not listening, but {step}.", "Who needs a plan, just {step}.",
    "My only idea is to {step}.", "Trust your luck and {step}.", "Skip everything else and {step}.",
    "For no reason at all, {step}.", "I love it when people {step}.", "Let us pretend and {step}.",
)  # fmt: skip
_GOOD_SECOND = (
    "Then {step}, ideally {time}.", "After that, {step} {time}.", "Next, {step}, and do it {time}.",
    "It also helps to {step} {time}.", "Once this is done, {step} {time}.", "Besides, {step} {time}.",
    "Later on, {step}, again {time}.", "As a second step, {step} {time}.", "You should also {step} {time}.",
    "Many people forget to {step} {time}.", "In addition, {step} {time}.", "From then on, {step} {time}.",
)  # fmt: skip
_BAD_SECOND = (
    "By the way, you could {step} {time}.", "That reminds me to {step} {time}.", "Anyway, {step} {time}, who cares.",
    "I would rather {step} {time}.", "Speaking of nothing, {step} {time}.", "On a whim, {step} {time}.",
    "Just for fun, {step} {time}.", "My cousin likes to {step} {time}.", "If you are bored, {step} {time}.",
    "As I said before, {step} {time}.", "Or else, {step} {time}, I guess.", "Stars say that you {step} {time}.",
)  # fmt: skip
_GOOD_REASONS = (
    "The reason is that {reason}.", "This matters because {reason}.", "Keep in mind that {reason}.",
    "It works because {reason}.", "Remember that {reason}.", "Experience shows that {reason}.",
    "People overlook that {reason}.", "You will notice that {reason}.", "Be careful, since {reason}.",
    "The background is that {reason}.", "That is useful, as {reason}.", "In short, {reason}.",
)  # fmt: skip
_BAD_REASONS = (
    "My way never fails, and {reason}.", "There is no risk, even if {reason}.", "I am always right, and {reason}.",
    "Nobody needs to check that {reason}.", "Science is silly to say that {reason}.", "I dreamt that {reason}.",
    "It is my secret that {reason}.", "Doctors deny that {reason}.", "Success is guaranteed, as {reason}.",
    "Reasons are overrated, but {reason}.", "I beat all experts, since {reason}.", "Believe me that {reason}.",
)  # fmt: skip
_GOOD_CLOSINGS = (
    "Look at the result {time} and adjust.", "Check your progress {time} and write it down.",
    "If it fails, change one thing {time}.", "Ask somebody with experience {time}.", "Repeat this {time}.",
    "Take your time and review it {time}.", "Compare the outcomes {time}.", "Start small, build up {time}.",
    "Note what went well {time}.", "Come back with details {time} if it does not work.",
    "Give it a fair chance {time}.", "A short check {time} saves much trouble.",
)  # fmt: skip
_BAD_CLOSINGS = (
    "Now stop asking me {time}.", "Trust me blindly {time}.", "I am tired of this {time}.",
    "Whatever, do it {time} or never.", "Do not bother me again {time}.", "If it breaks, blame others {time}.",
    "That is all, so thank me {time}.", "Figure it out alone {time}.", "You owe me a favour {time}.",
    "Rate me with five stars {time}.", "Nobody reads this {time} anyway.", "Praise me for it {time}.",
)  # fmt: skip

SLOTS = ("opening", "first", "second", "reason", "closing")
"""Parts of a response; its quality is the share of them that are good."""


def _sentences(frames: tuple[str, ...], **words: tuple[str, ...]) -> list[str]:
    """Every frame with every choice of words; the frame changes fastest."""
    return [
        frame.format(**dict(zip(words, choice, strict=True))) for choice in product(*words.values()) for frame in frames
    ]


def _slot(slot: str, topic: Topic, off_topic: Topic | None) -> list[str]:
    """Sentences of one slot: good ones, or, where there is an off-topic, bad ones with its advice.

    Bad sentences say true things of another topic, so a policy meets all advice equally often and none is likelier
    than the other because it is commoner.
    """
    good = off_topic is None
    source = topic if off_topic is None else off_topic
    if slot == "opening":
        return _sentences(_GOOD_OPENINGS if good else _BAD_OPENINGS, name=(topic.name,))
    if slot == "first":
        return _sentences(_GOOD_FIRST if good else _BAD_FIRST, step=source.steps)
    if slot == "second":
        return _sentences(_GOOD_SECOND if good else _BAD_SECOND, time=_TIMES, step=source.steps)
    if slot == "reason":
        return _sentences(_GOOD_REASONS if good else _BAD_REASONS, reason=source.reasons)
    return _sentences(_GOOD_CLOSINGS if good else _BAD_CLOSINGS, time=_TIMES)


@lru_cache(maxsize=1)
def response_banks() -> tuple[tuple[pl.Series, int], ...]:
    """Per slot: its sentences, and how many variants each (topic, is_good) has.

    Sentence of topic t, goodness g and variant v: index ``(2 t + g) * num_variants + v``.
    """
    banks = []
    for slot in SLOTS:
        parts = [
            _slot(slot, topic, other)
            for number, topic in enumerate(TOPICS)
            for other in (TOPICS[(number + 1) % len(TOPICS)], None)
        ]
        sizes = {len(part) for part in parts}
        if len(sizes) != 1:
            raise AssertionError(f"good and bad sentences of slot {slot} differ in number: {sizes}")
        banks.append((pl.Series(slot, [sentence for part in parts for sentence in part]), sizes.pop()))
    return tuple(banks)


@lru_cache(maxsize=1)
def prompt_banks() -> tuple[pl.Series, pl.Series, pl.Series]:
    """Sentences of the three parts of a prompt, in the order of :data:`PROMPT_SHAPE`'s factors.

    Person and situation, topic and question, constraint and number: each flattened in C order.
    """
    settings = [f"My {person} {situation}." for person in _PEOPLE for situation in _SITUATIONS]
    questions = [question.format(name=topic.name) for topic in TOPICS for question in _QUESTIONS]
    constraints = [text.format(number=number) for text in _CONSTRAINTS for number in _NUMBERS]
    return pl.Series("setting", settings), pl.Series("question", questions), pl.Series("constraint", constraints)
