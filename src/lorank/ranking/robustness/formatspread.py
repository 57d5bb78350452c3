r"""FormatSpread: the best and the worst accuracy over prompt formats, found within a budget by Thompson sampling.

The accuracy of format i has the prior Beta(a, b) with b = 5 and a = max(1.1, b m / (1 - m)), m the accuracy of the
plain format. Half of the budget looks for the best format: draw \theta_i from each posterior, try the format of the
largest draw on a batch of examples; the other half looks for the worst, by the smallest. Successes and failures count
for both. The spread is the difference of the means at the end.

Paper: M. Sclar, Y. Choi, Y. Tsvetkov and A. Suhr, Quantifying Language Models' Sensitivity to Spurious Features in
Prompt Design, ICLR 2024.

*Deviations*: a prior mean m of 1, at which the published code divides by 0, is taken as (n + 1) / (n + 2) of the n
examples that it was measured on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from lorank.catalogue import catalogued
from lorank.errors import UsageError

F = TypeVar("F")
Evaluate = Callable[[F, np.ndarray], np.ndarray]
"""(format, places of examples) -> whether each was answered right, bool."""


@dataclass(frozen=True)
class Spread:
    """The places of the best and the worst format, their estimated accuracies, and how many examples were asked."""

    best: int
    worst: int
    highest: float
    lowest: float
    evaluations: int
    trials: tuple[int, ...]

    @property
    def spread(self) -> float:
        """The difference of the two accuracies."""
        return self.highest - self.lowest


@catalogued(
    "formatspread",
    area="robust",
    title="Quantifying Language Models' Sensitivity to Spurious Features in Prompt Design or: How I learned to start "
    "worrying about prompt formatting",
    reach="it judges and trains nothing, so it has no recipe key: lorank stress smollm2 --data D --formats 8",
)
def format_spread(
    evaluate: Evaluate[F],
    formats: Sequence[F],
    examples: int,
    budget: int,
    *,
    rng: np.random.Generator,
    batch: int = 20,
    b: float = 5.0,
) -> Spread:
    """Return the spread of accuracies over formats.

    Args:
        evaluate: It asks one format about the examples at the given places.
        formats: The formats, the plain one first, two or more.
        examples: How many examples there are, 1 or more.
        budget: How many examples may be asked in all, over all formats.
        rng: It draws posteriors and batches.
        batch: How many examples are asked at once.
        b: The prior's second number, above 0.

    Raises:
        UsageError: For fewer than two formats, or a budget below a batch for each.
    """
    if len(formats) < 2 or examples < 1 or batch < 1:
        raise UsageError("a spread needs two formats, one example and batches of one at least")
    batch = min(batch, examples)
    if budget < 2 * batch:
        raise UsageError(f"a budget of {budget} is less than two batches of {batch}")
    order = [rng.permutation(examples) for _ in formats]
    right, wrong = np.zeros(len(formats)), np.zeros(len(formats))
    spent = 0

    def ask(arm: int) -> None:
        nonlocal spent
        done = int(right[arm] + wrong[arm])
        places = np.take(order[arm], np.arange(done, done + batch), mode="wrap")
        found = int(np.count_nonzero(evaluate(formats[arm], places)))
        right[arm] += found
        wrong[arm] += batch - found
        spent += batch

    ask(0)
    mean = right[0] / batch if right[0] < batch else (batch + 1) / (batch + 2)
    a = max(1.1, b * mean / (1 - mean))
    for sign, until in ((1.0, budget // 2), (-1.0, budget)):
        while spent + batch <= until:
            drawn = rng.beta(a + right, b + wrong)
            ask(int(np.argmax(sign * drawn)))
    posterior = (a + right) / (a + b + right + wrong)
    tried = right + wrong > 0
    best = int(np.argmax(np.where(tried, posterior, -np.inf)))
    worst = int(np.argmin(np.where(tried, posterior, np.inf)))
    rate = right / np.maximum(right + wrong, 1)
    return Spread(best, worst, float(rate[best]), float(rate[worst]), spent, tuple(int(n) for n in right + wrong))
