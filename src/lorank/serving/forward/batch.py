"""One batch of jobs on its way through the engine: its rows of tokens, their values, and what is pending."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from lorank.errors import LorankError
from lorank.serving.adapters.package import Package
from lorank.serving.forward.grouping import bands_of
from lorank.serving.forward.loaded_adapter import LoadedAdapter
from lorank.serving.forward.rows import Rows, empty_values
from lorank.serving.requests.engine import Job


@dataclass(frozen=True)
class Run:
    """Rows of one adapter that are computed in one forward; ``adapter`` None is the base."""

    adapter: str | None
    rows: np.ndarray
    loaded: LoadedAdapter


@dataclass
class Batch:
    """Jobs that are scored together; forwards fill in ``values``.

    Args:
        jobs: what is to be scored.
        rows: the token rows of all jobs.
        values: float32 [rows, width], 0 where a row has not been computed.
        bands: int64 [rows]; rows of one band may share a forward.
        costs: int64 [rows], the tokens that a row costs in its band.
        pending: the runs that the next forward computes.
        packages: what each adapter brings beside its weights, by name.
        errors: why an adapter turned out broken, by name; the base is None.
    """

    jobs: Sequence[Job]
    rows: Rows
    values: np.ndarray
    bands: np.ndarray
    costs: np.ndarray
    pending: list[Run] = field(default_factory=list)
    packages: dict[str | None, Package | None] = field(default_factory=dict)
    errors: dict[str | None, LorankError] = field(default_factory=dict)

    @classmethod
    def of(cls, jobs: Sequence[Job], rows: Rows, *, packs: bool) -> "Batch":
        """Return a batch without values; ``packs`` says whether the model reads rows of any lengths side by side."""
        bands, costs = bands_of(rows.lengths, packs=packs)
        return cls(jobs, rows, empty_values(rows), bands, costs)

    def cost(self, rows: np.ndarray) -> int:
        """Return the tokens that ``rows`` cost together."""
        return int(self.costs[rows].sum())

    def tokens(self) -> dict[str | None, int]:
        """Return the tokens of each adapter's rows."""
        counts = np.bincount(self.rows.job, self.rows.lengths, minlength=len(self.jobs)).astype(np.int64)
        found: dict[str | None, int] = {}
        for job, count in zip(self.jobs, counts.tolist()):
            found[job.adapter] = found.get(job.adapter, 0) + count
        return found

    def rows_by_job(self) -> list[np.ndarray]:
        """Return the rows of each job."""
        order = np.argsort(self.rows.job, kind="stable")
        bounds = np.searchsorted(self.rows.job[order], np.arange(1, len(self.jobs)))
        return np.split(order, bounds)
