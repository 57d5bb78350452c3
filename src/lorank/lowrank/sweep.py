r"""Methods compared as they should be: each at the learning rate that suits it, and with the noise between seeds.

The rate of a method is the one with the lowest mean loss on development data; what is compared is the loss on test
data at that rate. Two methods differ where the mean of their differences d over n seeds, each with data and a model of
its own, is further from 0 than noise: |mean d| > t_{n-1, 0.975} sd(d) / sqrt(n).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from lorank.errors import UsageError

Run = Callable[[str, float, int], tuple[float, float]]
"""(method, learning rate, seed) -> the losses on development and on test data."""


@dataclass(frozen=True)
class Swept:
    """A method at its best ``rate``, and its test ``losses`` by seed, in the order of the seeds."""

    method: str
    rate: float
    losses: tuple[float, ...]

    @property
    def loss(self) -> float:
        """The mean test loss."""
        return mean(self.losses)


def sweep(methods: Iterable[str], rates: Sequence[float], seeds: Sequence[int], run: Run) -> dict[str, Swept]:
    """Return every method at its own best of ``rates``.

    Args:
        methods: names that ``run`` knows.
        rates: learning rates, all tried for every method.
        seeds: of data, model and start; the same for all methods, two at least.
        run: trains once. A loss that is not finite counts as infinite: that rate diverged.

    >>> swept = sweep(["a", "b"], [0.1, 1.0], [0, 1], lambda method, rate, seed: (rate, rate + seed))
    >>> swept["b"]
    Swept(method='b', rate=0.1, losses=(0.1, 1.1))
    """
    if len(seeds) < 2 or not rates:
        raise UsageError(f"{len(seeds)} seeds and {len(rates)} rates: noise takes two seeds, a sweep takes a rate")
    found = {}
    for method in methods:
        tried = {rate: [run(method, rate, seed) for seed in seeds] for rate in rates}
        dev = {rate: mean(_finite(loss) for loss, _ in runs) for rate, runs in tried.items()}
        best = min(dev, key=dev.__getitem__)
        found[method] = Swept(method, best, tuple(test for _, test in tried[best]))
    return found


def within_noise(one: Swept, other: Swept) -> bool:
    """Return whether the two differ by no more than noise, as the equation above has it.

    >>> within_noise(Swept("a", 1.0, (1.0, 2.0, 3.0)), Swept("b", 1.0, (1.1, 1.9, 3.0)))
    True
    >>> within_noise(Swept("a", 1.0, (1.0, 2.0, 3.0)), Swept("b", 1.0, (2.0, 3.1, 4.0)))
    False
    """
    from scipy.stats import t

    differences = [a - b for a, b in zip(one.losses, other.losses, strict=True)]
    n = len(differences)
    return bool(abs(mean(differences)) <= float(t.ppf(0.975, n - 1)) * stdev(differences) / n**0.5)


def _finite(loss: float) -> float:
    return loss if loss == loss else float("inf")
