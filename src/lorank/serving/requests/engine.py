"""What a server asks of whatever computes scores: jobs in, one answer a job out."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from lorank.errors import LorankError


@dataclass(frozen=True)
class Job:
    """One list to score: ``documents`` for ``query`` by ``adapter``; None means the base model itself.

    Where they are a slice, ``documents_in_list`` says how many documents the whole list has.
    """

    adapter: str | None
    query: str
    documents: Sequence[str]
    documents_in_list: int | None = None


@dataclass(frozen=True)
class Scored:
    """The answer to one job.

    Args:
        scores: float32, one a document, in the order given; higher is more relevant.
        tokens: how many tokens the model read.
        truncated: how many of the documents were read in part only.
        probabilities: float32 in [0, 1], one a document, where the adapter brings a calibration.
        cut: bool, one a document, True where it was read in part only; None where only their number is known.
        above: bool, one a document, True at the adapter's certified threshold or above it; None where it has none.
    """

    scores: np.ndarray
    tokens: int
    truncated: int
    probabilities: np.ndarray | None = None
    cut: np.ndarray | None = None
    above: np.ndarray | None = None


class UnknownAdapter(LorankError):
    """No adapter has that name."""


class NotYet(LorankError):
    """The adapter's files are new and not checked yet.

    ``start`` begins the check, where it can be waited for; ``retry_s`` is the time in seconds after which it may be
    asked for again.
    """

    def __init__(
        self, name: str, start: "Callable[[], Future[None]] | None" = None, *, retry_s: float | None = None
    ) -> None:
        super().__init__(f"adapter {name!r} is still being checked; ask again in a moment")
        self.start, self.retry_s = start, retry_s


class Engine(Protocol):
    """Scores jobs of many adapters on one base; one batch at a time, from one thread at a time.

    An engine may also have ``reads``, see `tokens_read`, and ``occupancy``, the counts that the metrics show.
    """

    base_name: str
    """What the base model is called in requests."""

    def score(self, jobs: Sequence[Job]) -> list[Scored | LorankError]:
        """Return one answer per job, in order; an unknown or broken adapter is the error of its jobs alone."""
        ...

    def adapters(self) -> list[str]:
        """Return the names of the adapters that can be asked for, sorted; listing opens none of them."""
        ...

    def version(self, adapter: str | None) -> str:
        """Return what changes whenever the adapter's files do; quick, opens no weights; may be asked from any thread.

        Raises:
            UnknownAdapter: no adapter has that name.
            NotYet: wait, then ask again.
        """
        ...

    def close(self) -> None:
        """Give up what is held: adapters in memory, files, threads."""
        ...


def tokens_read(engine: Engine) -> int | None:
    """Return the most tokens of query and document together that an engine reads of a row; None where it reads all."""
    return getattr(engine, "reads", None)
