"""Groups as vLLM requests that share their prompt through the prefix cache, and what the cache keeps from them.

vLLM reuses whole blocks of the cache. Where the tokens that two siblings share reach past the last prompt token, the
row that predicts the second one's first token lies in a block that is not computed again, and its log-prob is lost. The
number of rows that will be lost is known beforehand, so the sibling that does compute those rows is asked for the
other one's tokens too (*points*). What was really served is checked afterwards, and never trusted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from schemas.tokens import EncodedGroup


@dataclass(slots=True)
class Request:
    """One response as a request.

    Attributes:
        group, index: which response of which group.
        start: the row (token index) that predicts the first response token.
        targets: the response's tokens.
        points: further (row, token) pairs to take from this request's rows, for siblings.
        source: request whose points stand in for this one's lost rows, and the first of them; None without.
        num_borrowed: lost rows that the source stands in for.
        is_uncached: must not read the prefix cache.
    """

    group: int
    index: int
    start: int
    targets: Sequence[int]
    points: list[tuple[int, int]] = field(default_factory=list)
    source: tuple[int, int] | None = None
    num_borrowed: int = 0
    is_uncached: bool = False

    def token_ids(self, groups: Sequence[EncodedGroup]) -> list[int]:
        """Prompt and response."""
        return [*groups[self.group].prompt_ids, *self.targets]


@dataclass(frozen=True, slots=True)
class Served:
    """What came back for a request.

    Attributes:
        first_row: the first row that was computed; those before came from the cache.
        logps: sum over the rows from ``max(start, first_row)`` on, in nats.
        points: log-probs of the request's points.
        num_cached: tokens that came from the cache.
        embedding: projected last hidden state, or None.
    """

    first_row: int
    logps: float
    points: Sequence[float]
    num_cached: int
    embedding: Sequence[float] | None = None


def requests_of(groups: Sequence[EncodedGroup], *, block_size: int) -> list[Request]:
    """A request for each response, siblings next to one another, with the points that the cache will make necessary.

    Args:
        groups: what to score.
        block_size: tokens in a block of the prefix cache; 0 where nothing is read from it.
    """
    requests: list[Request] = []
    for number, group in enumerate(groups):
        first = len(requests)
        for index, targets in enumerate(group.response_ids):
            request = Request(number, index, len(group.prompt_ids) - 1, targets, is_uncached=block_size == 0)
            if block_size:
                _foresee(request, requests, first, block_size)
            requests.append(request)
    return requests


def _foresee(request: Request, requests: list[Request], first: int, block_size: int) -> None:
    """Find how many rows the cache will keep from a request, and a sibling that computes them."""
    siblings = range(first, len(requests))
    shared = {number: _common(request.targets, requests[number].targets) for number in siblings}
    if not shared:
        return
    prompt_length = request.start + 1
    reach = min(prompt_length + max(shared.values()), prompt_length + len(request.targets) - 1)
    lost = reach // block_size * block_size - request.start
    if lost <= 0:
        return
    for number in siblings:
        source = requests[number]
        if shared[number] >= lost - 1 and source.num_borrowed == 0 and not source.is_uncached:
            request.source, request.num_borrowed = (number, len(source.points)), lost
            source.points += [(request.start + row, request.targets[row]) for row in range(lost)]
            return
    request.is_uncached = True


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the common beginning."""
    for count, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return count
    return min(len(one), len(other))


def settle(requests: Sequence[Request], served: Sequence[Served]) -> list[float | None]:
    """Log-prob of each request's response; None where rows are missing, so that it must be asked for again.

    A source that was itself served from too late a row has no points to lend: its own points are NaN.
    """
    totals: list[float | None] = []
    for request, result in zip(requests, served, strict=True):
        missing = result.first_row - request.start
        if missing <= 0:
            totals.append(result.logps)
        elif request.source is None or missing > request.num_borrowed:
            totals.append(None)
        else:
            number, offset = request.source
            lent = served[number].points[offset : offset + missing]
            total = result.logps + sum(lent)
            totals.append(None if total != total else total)
    return totals
