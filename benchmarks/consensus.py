"""Bradley-Terry: lorank's Newman iteration against choix's fits, on the same duels.

Planted strengths, 1,000 items, 100,000 duels. Both sides take turns in one process, from the same duels in memory;
lorank's time includes counting the duels into pairs. choix's maximum-likelihood fit is ``opt_pairwise`` (Newton-CG,
its default), beside it ``ilsr_pairwise``.

    python benchmarks/consensus.py
"""

import argparse
import statistics
import time
from collections.abc import Callable

import choix
import numpy as np

from lorank.ranking.consensus import from_duels
from lorank.ranking.consensus.bradley_terry import fit

Duels = list[tuple[int, int]]


def planted(items: int, duels: int, seed: int) -> Duels:
    """Return (winner, loser) of duels between random items with normal log strengths."""
    rng = np.random.default_rng(seed)
    strength = rng.normal(size=items)
    first = rng.integers(items, size=duels)
    second = (first + rng.integers(1, items, size=duels)) % items
    won = rng.random(duels) < 1 / (1 + np.exp(strength[second] - strength[first]))
    pairs = np.where(won[:, None], np.stack([first, second], 1), np.stack([second, first], 1))
    return [tuple(pair) for pair in pairs.tolist()]


def timed(function: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    """Return the seconds a call took, and its result with mean 0."""
    start = time.perf_counter()
    found = function()
    return time.perf_counter() - start, found - found.mean()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--duels", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    duels = planted(chosen.items, chosen.duels, chosen.seed)
    names = [f"{item:06d}" for item in range(chosen.items)]
    named = [(names[winner], names[loser]) for winner, loser in duels]
    pairs = from_duels(named, items=names).pairs()
    systems: dict[str, Callable[[], np.ndarray]] = {
        "lorank, from duels": lambda: fit(from_duels(named, items=names).pairs(), chosen.items, prior=0).strengths,
        "lorank, from counts": lambda: fit(pairs, chosen.items, prior=0).strengths,
        "choix.opt_pairwise": lambda: choix.opt_pairwise(chosen.items, duels, alpha=0, tol=1e-8),
        "choix.ilsr_pairwise": lambda: choix.ilsr_pairwise(chosen.items, duels, tol=1e-8),
    }
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    answers: dict[str, np.ndarray] = {}
    for _ in range(chosen.rounds):
        for name, function in systems.items():
            took, answers[name] = timed(function)
            seconds[name].append(took)
    ours = answers["lorank, from duels"]
    print(f"{chosen.items} items, {len(duels)} duels, {fit(pairs, chosen.items, prior=0).iterations} iterations, "
          f"medians of {chosen.rounds} rounds\n")
    print("| fit | seconds | lorank from duels is faster by | from counts by | largest difference of log strength |")
    print("|---|---|---|---|---|")
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    for name, median in medians.items():
        whole, counted = (median / medians[f"lorank, from {what}"] for what in ("duels", "counts"))
        print(f"| {name} | {median:.3f} | {whole:.1f} | {counted:.1f} | {np.abs(answers[name] - ours).max():.1e} |")


if __name__ == "__main__":
    main()
