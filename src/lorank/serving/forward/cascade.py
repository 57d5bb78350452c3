"""The engine of a cascade: two engines of one ranker each, and how the second corrects the first.

A list that names no model is scored by the first ranker, slice by slice as any other. The best of it come back as a
short list of their own for the second one (`lorank.serving.requests.correction`).
"""

from collections.abc import Sequence
from dataclasses import replace

from lorank.errors import LorankError
from lorank.serving.forward.engine import MixedEngine
from lorank.serving.requests.correction import SECOND, Correction
from lorank.serving.requests.engine import Job, Scored, UnknownAdapter

ADAPTER = "tuned"
"""What the engine of a step calls the step's adapter."""


class CascadeEngine:
    """An ``Engine`` of the two rankers of a cascade; it has no adapters to ask for.

    Args:
        first: The engine of the ranker that scores every document.
        second: The engine of the one that corrects the best, whose scores are what it has learned alone.
        correction: How it corrects them.
        base_name: What the cascade is called in requests.
    """

    def __init__(self, first: MixedEngine, second: MixedEngine, correction: Correction, base_name: str) -> None:
        self.first, self.second, self.correction, self.base_name = first, second, correction, base_name

    @property
    def reads(self) -> int | None:
        """The most tokens that either ranker reads of a row; None where one of them reads all."""
        both = [self.first.reads, self.second.reads]
        known = [reads for reads in both if reads is not None]
        return max(known) if len(known) == len(both) else None

    def score(self, jobs: Sequence[Job]) -> list[Scored | LorankError]:
        """Return one answer per job, in order."""
        answers: dict[int, Scored | LorankError] = {}
        for engine, name in ((self.first, None), (self.second, SECOND)):
            places = [place for place, job in enumerate(jobs) if job.adapter == name]
            own = [replace(jobs[place], adapter=adapter_of(engine)) for place in places]
            answers |= dict(zip(places, engine.score(own) if own else [], strict=True))
        return [answers[place] if place in answers else unknown(job.adapter) for place, job in enumerate(jobs)]

    def adapters(self) -> list[str]:
        """Return no names."""
        return []

    def version(self, adapter: str | None) -> str:
        """Return the version of both rankers, which are read once."""
        if adapter not in (None, SECOND):
            raise unknown(adapter)
        return "cascade"

    def occupancy(self) -> dict[str, int]:
        """Return the counts of both engines together."""
        first, second = self.first.occupancy(), self.second.occupancy()
        return {key: first[key] + second[key] for key in first}

    def close(self) -> None:
        """Close both engines."""
        self.first.close()
        self.second.close()


def adapter_of(engine: MixedEngine) -> str | None:
    """Return the adapter of a step's engine; None where its model holds all of it."""
    return next(iter(engine.adapters()), None)


def unknown(adapter: str | None) -> UnknownAdapter:
    """Return the error of a name that a cascade does not have."""
    return UnknownAdapter(f"no adapter called {adapter!r}: a cascade is served by itself")
