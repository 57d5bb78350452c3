"""Which rows of a batch belong to which adapter: found once a batch, read by every layer.

The rows (sequences) of a batch are sorted by adapter, so each adapter holds one run of rows, and one run of
tokens. A layer's input, flattened to [n, in], is recognised by n: it has one line a token or one line a row.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from lorank.errors import LorankError


class Unmixable(LorankError):
    """A layer's input has neither a line a token nor a line a row: adapters must run one after another."""


@dataclass(frozen=True)
class Runs:
    """The bounds of the adapters' runs in one flattened input: run i is lines ``bounds[i]`` to ``bounds[i + 1]``."""

    bounds: tuple[int, ...]

    @property
    def lengths(self) -> list[int]:
        """How many lines each run has."""
        return [end - begin for begin, end in zip(self.bounds, self.bounds[1:])]

    @property
    def even(self) -> bool:
        """True where all runs are of one length."""
        return len(set(self.lengths)) == 1

    def first(self, count: int) -> "Runs":
        """Return the first ``count`` runs."""
        return Runs(self.bounds[: count + 1])


@dataclass(frozen=True)
class Segments:
    """The runs of a batch by the number of lines that an input has.

    >>> segments = Segments.of([2, 1], np.array([3, 4, 5]))
    >>> segments.at(12).bounds, segments.at(3).bounds
    ((0, 7, 12), (0, 2, 3))
    """

    rows: Runs
    tokens: Runs

    @classmethod
    def of(cls, rows: Sequence[int], lengths: np.ndarray) -> "Segments":
        """Return the segments of a batch whose members hold ``rows`` sequences each, of ``lengths`` tokens."""
        row_bounds = np.concatenate([[0], np.cumsum(rows)])
        token_bounds = np.concatenate([[0], np.cumsum(lengths)])[row_bounds]
        return cls.of_bounds(row_bounds, token_bounds)

    @classmethod
    def of_bounds(cls, rows: np.ndarray, tokens: np.ndarray) -> "Segments":
        """Return the segments with these bounds, each from 0 to its number of lines."""
        return cls(Runs(tuple(int(b) for b in rows)), Runs(tuple(int(b) for b in tokens)))

    @classmethod
    def of_padded(cls, rows: Sequence[int], longest: int) -> "Segments":
        """Return the segments of a batch whose sequences are all padded to ``longest`` tokens."""
        bounds = np.concatenate([[0], np.cumsum(rows)])
        return cls.of_bounds(bounds, bounds * longest)

    def at(self, lines: int) -> Runs:
        """Return the runs of an input of ``lines`` lines."""
        for runs in (self.tokens, self.rows):
            if runs.bounds[-1] == lines:
                return runs
        known = f"{self.tokens.bounds[-1]} tokens in {self.rows.bounds[-1]} rows"
        raise Unmixable(f"a layer got {lines} lines, the batch has {known}")


class Current:
    """What the layers of one model work on now: the members of a batch, their segments, or one of them alone.

    The first ``plain`` members are plain LoRAs, whose pages ``stacks`` lists.
    """

    def __init__(self) -> None:
        self.members: Sequence[Any] = ()
        self.segments: Segments | None = None
        self.stacks: Any = None
        self.plain = 0
        self.only: int | None = None

    @contextmanager
    def batch(self, members: Sequence[Any], plain: int, stacks: Any, segments: Segments | None) -> Iterator[None]:
        """Within it the layers score ``members``; a single one owns every input, whatever its shape.

        Args:
            members: The adapters of the batch, the plain LoRAs first.
            plain: The number of plain LoRAs.
            stacks: Their pages, `lorank.serving.forward.mixed.Tables`; None where there are none.
            segments: The rows and tokens of each member; None where the batch has one member.
        """
        self.members, self.plain, self.stacks, self.segments = members, plain, stacks, segments
        self.only = 0 if len(members) == 1 else None
        try:
            yield
        finally:
            self.members, self.plain, self.stacks, self.segments, self.only = (), 0, None, None, None

    @contextmanager
    def alone(self, member: int) -> Iterator[None]:
        """Within it every input belongs to one member."""
        before, self.only = self.only, member
        try:
            yield
        finally:
            self.only = before

    def runs(self, lines: int) -> Runs:
        """Return the runs of an input of ``lines`` lines."""
        if self.only is not None:
            return Runs((0, lines))
        assert self.segments is not None
        return self.segments.at(lines)
