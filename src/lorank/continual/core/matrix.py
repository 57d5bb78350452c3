r"""The matrix of a stream: the quality of every test set before the first stage and after each one.

Q [stages + 1, tests], Q[0, j] of the untuned base, Q[t, j] after stage t. With T stages done, of test j (which belongs
to stage j):

    forgetting_j = max over j <= t <= T of Q[t, j] - Q[T, j]      what was once known and is lost (best past minus last)
    transfer_j = Q[j - 1, j] - Q[0, j]                            what earlier stages gave to a stage before it began
    final mean = mean over j of Q[T, j]

The mean of forgetting is over the stages but the last, which nothing came after; that of transfer is over the stages
but the first.

Chaudhry, Dokania, Ajanthan, Torr, Riemannian Walk for Incremental Learning, 2018, arXiv:1801.10112 (forgetting);
Lopez-Paz, Ranzato, Gradient Episodic Memory for Continual Learning, 2017, arXiv:1706.08840 (transfer).

*Deviations*: the best past value counts the last stage too, so that forgetting is never below 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lorank.errors import UsageError


@dataclass(frozen=True)
class QualityMatrix:
    """Quality by stage and test set.

    Attributes:
        tests: The names of the test sets, in the order of the stages.
        rows: The values, the untuned base's first; one row per stage that is done behind it.
        measure: What is measured.

    >>> matrix = QualityMatrix(("a", "b"), ((0.2, 0.3), (0.6, 0.4), (0.5, 0.7)))
    >>> [round(value, 4) for value in (*matrix.forgetting(), *matrix.transfer(), matrix.final_mean())]
    [0.1, 0.0, 0.0, 0.1, 0.6]
    """

    tests: tuple[str, ...]
    rows: tuple[tuple[float, ...], ...]
    measure: str = "nDCG@10"

    def __post_init__(self) -> None:
        if not self.rows or any(len(row) != len(self.tests) for row in self.rows):
            raise UsageError(f"each row of the matrix needs {len(self.tests)} values, one per test set, and one row is")
        if len(self.rows) > len(self.tests) + 1:
            raise UsageError(f"{len(self.rows) - 1} stages are too many for {len(self.tests)} test sets")

    @property
    def stages(self) -> int:
        """The number of stages that are done."""
        return len(self.rows) - 1

    @property
    def values(self) -> np.ndarray:
        """Q [stages + 1, tests]."""
        return np.asarray(self.rows, float)

    def forgetting(self) -> list[float]:
        """Return best past minus last of each test set whose stage is done."""
        values = self.values
        return [float(values[j + 1 :, j].max() - values[-1, j]) for j in range(self.stages)]

    def transfer(self) -> list[float]:
        """Return what each stage that is done had gained from those before it; 0 of the first."""
        values = self.values
        return [float(values[j, j] - values[0, j]) for j in range(self.stages)]

    def learned(self) -> list[float]:
        """Return the value of each test set right after its own stage."""
        return [float(self.values[j + 1, j]) for j in range(self.stages)]

    def final_mean(self) -> float:
        """Return the mean over the test sets of the stages that are done, or of all before the first."""
        return float(self.values[-1, : self.stages or None].mean())

    def mean_forgetting(self) -> float:
        """Return the mean over the stages but the last; 0 where there is none."""
        return _mean(self.forgetting()[:-1])

    def mean_transfer(self) -> float:
        """Return the mean over the stages but the first; 0 where there is none."""
        return _mean(self.transfer()[1:])

    def to_dict(self) -> dict[str, Any]:
        """Return the matrix and what follows from it as JSON data."""
        return {
            "measure": self.measure,
            "tests": list(self.tests),
            "quality": [list(row) for row in self.rows],
            "forgetting": self.forgetting(),
            "transfer": self.transfer(),
            "learned": self.learned(),
            "final_mean": self.final_mean(),
            "mean_forgetting": self.mean_forgetting(),
            "mean_transfer": self.mean_transfer(),
        }

    def with_row(self, row: Sequence[float]) -> "QualityMatrix":
        """Return the matrix with one more stage."""
        return QualityMatrix(self.tests, (*self.rows, tuple(row)), self.measure)


def to_markdown(matrix: QualityMatrix) -> str:
    """Return the matrix as a table, a test set's own stage marked, with forgetting and transfer below.

    >>> print(to_markdown(QualityMatrix(("a", "b"), ((0.2, 0.3), (0.6, 0.4), (0.5, 0.7)))))
    | nDCG@10       | a     | b     | mean  |
    |---------------|-------|-------|-------|
    | untuned       | .200  | .300  | .250  |
    | after 1 a     | .600* | .400  | .500  |
    | after 2 b     | .500  | .700* | .600  |
    | forgetting    | .100  | .000  | .100  |
    | transfer      |       | .100  | .100  |
    """
    names = ["untuned", *(f"after {j + 1} {matrix.tests[j]}" for j in range(matrix.stages))]
    lines = [[matrix.measure, *matrix.tests, "mean"]]
    for stage, row in enumerate(matrix.rows):
        cells = [_figure(value) + ("*" if j == stage - 1 else "") for j, value in enumerate(row)]
        lines.append([names[stage], *cells, _figure(sum(row) / len(row))])
    blank = [""] * (len(matrix.tests) - matrix.stages)
    lines.append(["forgetting", *map(_figure, matrix.forgetting()), *blank, _figure(matrix.mean_forgetting())])
    moved = ["" if j == 0 else _figure(value) for j, value in enumerate(matrix.transfer())]
    lines.append(["transfer", *moved, *blank, _figure(matrix.mean_transfer())])
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    widths = [max(13, widths[0]), *(max(5, width) for width in widths[1:])]
    written = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    written.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(written)


def _figure(value: float) -> str:
    return f"{value:.3f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.3f}"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
