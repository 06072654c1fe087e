"""What a run has shown, in numbers. Pure."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from statistics import median, quantiles
from typing import Any

from tests.chaos.checker import BASE, NOTHING, Subscription
from tests.chaos.history import History, Span
from tests.chaos.journal import Record


@dataclass
class Delivery:
    """One change that one subscription had to learn."""

    client: str
    committed: float
    learned: float | None

    @property
    def seconds(self) -> float:
        return (self.learned or self.committed) - self.committed


@dataclass
class Figures:
    """The numbers of one run."""

    database: str
    seed: int
    seconds: float
    clients: int
    changes_committed: int
    frames_delivered: int
    deliveries: int
    lost: int
    application_duplicates: int
    rows_repeated_on_the_wire: int
    resumes: int
    resets: dict[str, int]
    median_ms: float
    p99_ms: float
    calm_p99_ms: float
    recoveries: list[dict[str, Any]]
    converged_after_seconds: float
    violations: int
    #: Of each server, by what it holds: before anybody came, and when all had gone.
    held: list[dict[str, list[int]]]
    refusals: dict[str, int] = field(default_factory=dict)

    def json(self) -> str:
        return json.dumps(asdict(self), indent=2)


def deliveries(subscriptions: Iterable[Subscription], history: History) -> list[Delivery]:
    """Return, for each change and each subscription that could see it, when it was learned."""
    found: list[Delivery] = []
    for subscription in subscriptions:
        found += _learned_by(subscription, history)
    return found


def _learned_by(subscription: Subscription, history: History) -> list[Delivery]:
    learned: dict[str, list[tuple[float, int | None]]] = defaultdict(list)
    for t, key, seen in subscription.learned:
        learned[key].append((t, seen))
    bases = [t for t, _ in learned.pop(BASE, [])]
    if not bases:
        return []
    refused = learned.pop(NOTHING, [])
    found = []
    for epoch, life in enumerate(history.epochs):
        ended = min((other.began for other in history.epochs[epoch + 1 :]), default=float("inf"))
        line = history.timeline(subscription.scope, subscription.asker, epoch)
        complete = [
            (t, position)
            for t, position, uuid in subscription.complete
            if life.log.get(position) == uuid
        ]
        for key, spans in line.spans.items():
            told = sorted([*learned[key], *refused], key=lambda one: one[0])
            later = None
            for span, before in pairwise(reversed(spans)):
                # Who knows what came after it need not be told what was before that.
                at = later = _first(span, told, complete) or later
                if not span.certain or not _differs(span, before):
                    continue
                if not max(bases[0], life.began) < span.end < ended:
                    continue
                if ended < float("inf") and (at is None or at > ended):
                    continue  # the epoch ended: what was not yet told is undone
                found.append(Delivery(subscription.client, span.end, at))
    return found


def _differs(span: Span, before: Span) -> bool:
    """Return whether there is anything to tell to who knows what was ``before``."""
    if not (span.holds or before.holds):
        return False
    return (span.holds, span.version) != (before.holds, before.version)


def _first(
    span: Span, learned: list[tuple[float, int | None]], complete: list[tuple[float, int]]
) -> float | None:
    """Return when the state of ``span``, or a newer one, was known."""
    start = bisect_left(learned, (span.begin, -1))
    for t, seen in learned[start:]:
        if seen is None or seen >= span.version:
            return t
    if not span.holds:
        # It was not held at all, and nothing had to be told: at a cursor that is as far a client
        # knows it, and I1 holds it to that.
        return next(
            (t for t, at in complete if at >= span.position and t >= span.begin),
            None,
        )
    return None


def recoveries(faults: list[Record], found: list[Delivery]) -> list[dict[str, Any]]:
    """Return, by kind of fault, the longest time from its end until all it held up was known."""
    longest: dict[str, float] = {}
    for fault in faults:
        began, ended = fault["began"], fault["t"]
        late = [
            one.learned - max(ended, one.committed)
            for one in found
            if one.learned is not None and began <= one.committed <= ended + 1 < one.learned + 1
        ]
        longest[fault["fault"]] = max([longest.get(fault["fault"], 0.0), *late])
    return [
        {"fault": name, "seconds": round(seconds, 2)} for name, seconds in sorted(longest.items())
    ]


def percentiles(found: list[Delivery], faults: list[Record]) -> tuple[float, float, float]:
    """Return median, 99th percentile, and the latter away from faults, in milliseconds."""
    every = [one.seconds for one in found if one.learned is not None]
    calm = [
        one.seconds
        for one in found
        if one.learned is not None
        and not any(fault["began"] - 1 <= one.committed <= fault["t"] + 6 for fault in faults)
    ]
    return _ms(median(every or [0])), _p99(every), _p99(calm)


def _p99(values: list[float]) -> float:
    return _ms(quantiles(values, n=100)[98]) if len(values) > 1 else 0.0


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)


def total(counters: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Return the sum of ``counters``."""
    found: Counter[str] = Counter()
    for counter in counters:
        found.update(counter)
    return dict(found.most_common())
