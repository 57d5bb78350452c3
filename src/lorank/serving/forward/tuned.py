"""The engine of one tuned ranker, or of a cascade of two: a request that names no model is scored by all of it.

A cascade's first ranker scores a list slice by slice as any other. The best of it come back as a short list of their
own for the second one (`lorank.serving.requests.correction`).
"""

from collections.abc import Sequence
from dataclasses import replace

from lorank.errors import LorankError
from lorank.serving.forward.engine import MixedEngine
from lorank.serving.requests.correction import SECOND, Correction
from lorank.serving.requests.engine import Job, Scored, UnknownAdapter

ADAPTER = "tuned"
"""What the engine of a step calls the step's adapter."""


class TunedEngine:
    """An ``Engine`` of one ranker or two; it has no adapters to ask for.

    Args:
        first: The engine of the ranker that scores every document.
        base_name: What the whole is called in requests.
        second: The engine of the ranker that corrects the best, whose scores are what it has learned alone; None where
            it is no cascade.
        correction: How it corrects them.
    """

    def __init__(
        self,
        first: MixedEngine,
        base_name: str,
        second: MixedEngine | None = None,
        correction: Correction | None = None,
    ) -> None:
        self.first, self.base_name, self.second, self.correction = first, base_name, second, correction
        self.engines = {None: first} if second is None else {None: first, SECOND: second}

    @property
    def reads(self) -> int | None:
        """The most tokens that any ranker reads of a row; None where one of them reads all."""
        known = [reads for engine in self.engines.values() if (reads := engine.reads) is not None]
        return max(known) if len(known) == len(self.engines) else None

    def score(self, jobs: Sequence[Job]) -> list[Scored | LorankError]:
        """Return one answer per job, in order."""
        answers: dict[int, Scored | LorankError] = {}
        for name, engine in self.engines.items():
            places = [place for place, job in enumerate(jobs) if job.adapter == name]
            own = [replace(jobs[place], adapter=adapter_of(engine)) for place in places]
            answers |= dict(zip(places, engine.score(own) if own else [], strict=True))
        return [answers[place] if place in answers else unknown(job.adapter) for place, job in enumerate(jobs)]

    def adapters(self) -> list[str]:
        """Return no names."""
        return []

    def version(self, adapter: str | None) -> str:
        """Return the version of the rankers, which are read once."""
        if adapter not in self.engines:
            raise unknown(adapter)
        return "tuned"

    def occupancy(self) -> dict[str, int]:
        """Return the counts of all engines together."""
        counts = [engine.occupancy() for engine in self.engines.values()]
        return {key: sum(each[key] for each in counts) for key in counts[0]}

    def close(self) -> None:
        """Close the engines."""
        for engine in self.engines.values():
            engine.close()


def adapter_of(engine: MixedEngine) -> str | None:
    """Return the adapter of a step's engine; None where its model holds all of it."""
    return next(iter(engine.adapters()), None)


def unknown(adapter: str | None) -> UnknownAdapter:
    """Return the error of a name that there is not."""
    return UnknownAdapter(f"no adapter called {adapter!r}: a tuned ranker is served by itself")
