"""Bradley-Terry: lorank's Newman iteration against choix's fits, on the same duels.

Planted strengths, 1,000 items, 100,000 duels. Both sides take turns in one process, from the same duels in memory.
lorank's time is given twice: from the list of duels, counting them into pairs included, and from the counts; choix
reads the list of duels. choix's maximum-likelihood fits are ``opt_pairwise`` (Newton-CG, its default),
``ilsr_pairwise`` and ``mm_pairwise``. All stop at answers that agree to 1e-5 or better, which the table shows.

    OMP_NUM_THREADS=1 python benchmarks/consensus.py                   # wall time, for a quiet machine
    OMP_NUM_THREADS=1 python benchmarks/consensus.py --clock cpu       # CPU time of the process, for a busy one
    python benchmarks/consensus.py --tables                            # GLUE and football, no timing
"""

import argparse
import csv
import gzip
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import choix
import numpy as np

from lorank.ranking.consensus import Consensus, aggregate, from_duels
from lorank.ranking.consensus.bradley_terry import fit
from lorank.ranking.consensus.leaderboards import read_leaderboard
from lorank.ranking.consensus.vote_n_rank import vote_n_rank

DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"

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


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def timed(function: Callable[[], np.ndarray], clock: Callable[[], float]) -> tuple[float, np.ndarray]:
    """Return the seconds a call took, and its result with mean 0."""
    start = clock()
    found = function()
    return clock() - start, found - found.mean()


def glue_table(best: int = 5) -> str:
    """Return the first systems of GLUE under each rule; its ten tasks vote."""
    tasks = ["CoLA", "SST-2", "MRPC", "STS-B", "QQP", "MNLI-m", "MNLI-mm", "QNLI", "RTE", "WNLI"]
    board = read_leaderboard(DATA / "leaderboards" / "glue.csv", tasks=tasks)
    return ranked_columns(dict(vote_n_rank(board)), best)


def football_table(best: int = 10) -> str:
    """Return the strongest national teams of 2010 to 2019 by rules on duels; draws are draws."""
    with gzip.open(DATA / "football-internationals" / "results.csv.gz", "rt", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if "2010" <= row["date"][:4] <= "2019"]
    goals = [(row["home_team"], row["away_team"], int(row["home_score"]) - int(row["away_score"])) for row in rows]
    profile = from_duels([(home, away, (np.sign(lead) + 1) / 2) for home, away, lead in goals])
    rules: dict[str, tuple[str, dict[str, Any]]] = {
        "Bradley-Terry, half draws": ("bradley-terry", {}),
        "Davidson": ("bradley-terry", {"ties": "davidson"}),
        "PageRank": ("pagerank", {}),
        "openskill": ("openskill", {}),
        "win rate": ("winrate", {}),
    }
    merged = {name: aggregate(profile, rule, **options) for name, (rule, options) in rules.items()}
    return f"{len(goals):,} matches, {len(profile.items)} teams\n\n{ranked_columns(merged, best)}"


def ranked_columns(columns: dict[str, Consensus], best: int) -> str:
    """Return the first ``best`` of each order as Markdown columns."""
    head = ["place", *columns]
    lines = [head, ["---"] * len(head)]
    lines += [
        [str(place + 1), *(one.order[place].replace("|", "/") for one in columns.values())] for place in range(best)
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def compare_fits(chosen: argparse.Namespace) -> None:
    """Print the table of fits."""
    duels = planted(chosen.items, chosen.duels, chosen.seed)
    names = [f"{item:06d}" for item in range(chosen.items)]
    named = [(names[winner], names[loser]) for winner, loser in duels]
    pairs = from_duels(named, items=names).pairs()
    systems: dict[str, Callable[[], np.ndarray]] = {
        "lorank, from duels": lambda: fit(from_duels(named, items=names).pairs(), chosen.items, prior=0).strengths,
        "lorank, from counts": lambda: fit(pairs, chosen.items, prior=0).strengths,
        "choix.opt_pairwise": lambda: choix.opt_pairwise(chosen.items, duels, alpha=0, tol=1e-8),
        "choix.ilsr_pairwise": lambda: choix.ilsr_pairwise(chosen.items, duels, tol=1e-8),
        "choix.mm_pairwise": lambda: choix.mm_pairwise(chosen.items, duels, tol=1e-8),
    }
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    answers: dict[str, np.ndarray] = {}
    for number in range(chosen.rounds):
        for name, function in systems.items():
            took, answers[name] = timed(function, CLOCKS[chosen.clock])
            seconds[name].append(took)
            print(f"round {number + 1} of {chosen.rounds}: {name} {took:.3f} s", file=sys.stderr, flush=True)
    ours = answers["lorank, from duels"]
    print(
        f"{chosen.items} items, {len(duels)} duels, {fit(pairs, chosen.items, prior=0).iterations} iterations, "
        f"medians of {chosen.rounds} rounds, {chosen.clock} time\n"
    )
    print(
        "| fit | seconds (min to max) | lorank from duels is faster by | from counts by | largest difference of log "
        "strength |\n|---|---|---|---|---|"
    )
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    for name, median in medians.items():
        least, most = min(seconds[name]), max(seconds[name])
        whole, counted = (median / medians[f"lorank, from {what}"] for what in ("duels", "counts"))
        apart = np.abs(answers[name] - ours).max()
        print(f"| {name} | {median:.3f} ({least:.3f} to {most:.3f}) | {whole:.1f} | {counted:.1f} | {apart:.1e} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--duels", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tables", action="store_true")
    parser.add_argument("--clock", choices=sorted(CLOCKS), default="wall")
    chosen = parser.parse_args()
    if chosen.tables:
        print(f"### GLUE, ten tasks voting\n\n{glue_table()}\n\n### Football, 2010 to 2019\n\n{football_table()}")
        return
    compare_fits(chosen)


if __name__ == "__main__":
    main()
