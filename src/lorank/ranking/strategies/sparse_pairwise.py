"""Sparse pairwise reranking: compare a sample of the pairs, and aggregate what they say.

Samples of about ``share`` of the n(n - 1) ordered pairs, each document first in m = round(share (n - 1)) of them:

- ``global``: m partners for each document, drawn without replacement.
- ``neighbourhood``: document i with its m followers i + 1, ..., i + m (cyclic) in the order given.
- ``skip-window``: document i with i + s, i + 2s, ..., i + ms (cyclic) in the order given.

Aggregation: ``additive`` (wins less losses), ``winrate``, ``pagerank``, ``bradley-terry``, ``greedy`` (takes the
document with most wins less losses against those that are left), ``kwiksort`` (a quicksort whose pairs are looked up in
the sample; unknown pairs keep the order given). Calls: n m, in one round.

Paper: Gienapp, Fröbe, Hagen and Potthast, Sparse Pairwise Re-ranking with Pre-trained Transformers, 2022.

*Deviations*: the skip is one number s, coprime to nothing in particular; partners that fall together (i + as = i +
bs mod n, or i itself) are replaced by the next free follower, so that every sample has n m pairs.
"""

from collections.abc import Callable

import numpy as np

from lorank.errors import UsageError, unknown_name
from lorank.ranking.judges import Question, Session
from lorank.ranking.strategies.registry import Standing, by_score, check_round, register_strategy
from lorank.ranking.strategies.tally import TALLIES, Comparisons

Pairs = list[tuple[int, int]]


@register_strategy("sparse-pairwise", title="Sparse Pairwise Re-ranking with Pre-trained Transformers")
def sparse_pairwise(
    session: Session,
    top: int,
    generator: np.random.Generator,
    *,
    sampling: str = "global",
    share: float = 1 / 3,
    skip: int = 7,
    aggregation: str = "additive",
) -> Standing:
    """Order by a sample of comparisons.

    Args:
        session: The questions to the judge about one query's documents, with its cache and its budget.
        top: It is not used; the whole list is ordered.
        generator: The source of every random draw.
        sampling: One of ``global``, ``neighbourhood`` and ``skip-window``.
        share: The share of the ordered pairs that is asked, above 0 and at most 1.
        skip: The step of ``skip-window``, 1 or more.
        aggregation: The name of a rule in ``TALLIES``, or ``kwiksort``.

    Raises:
        UsageError: If a name is not known, or a number is out of its range.
    """
    if sampling not in SAMPLINGS:
        raise unknown_name("sampling", sampling, SAMPLINGS)
    if aggregation not in (*TALLIES, "kwiksort"):
        raise unknown_name("aggregation", aggregation, [*TALLIES, "kwiksort"])
    if not 0 < share <= 1 or skip < 1:
        raise UsageError(f"share must be in (0, 1] and skip 1 or above, got {share} and {skip}")
    count = session.count
    each = min(count - 1, max(1, round(share * (count - 1))))
    check_round(count * each, f"sparse-pairwise with share {share:g}")
    pairs = SAMPLINGS[sampling](count, each, skip, generator)
    answers = session.ask_within_budget([Question("pairwise", pair) for pair in pairs])
    pairs, outcomes = [pairs[place] for place in answers], list(answers.values())
    if aggregation == "kwiksort":
        return Standing(kwiksort(count, pairs, outcomes, generator))
    first, second = np.array(pairs, np.int64).reshape(-1, 2).T
    scores = TALLIES[aggregation](Comparisons(count, first, second, np.array(outcomes))).tolist()
    return Standing(by_score(scores), scores)


def global_sample(count: int, each: int, skip: int, generator: np.random.Generator) -> Pairs:
    """Return ``each`` random partners for every document.

    Args:
        count: The number of documents.
        each: The number of partners of a document, at most ``count`` - 1.
        skip: It is not used.
        generator: The source of every random draw.
    """
    pairs = []
    for a in range(count):
        drawn = generator.choice(count - 1, each, replace=False) if count > 1 else []
        pairs += [(a, int(b) + (int(b) >= a)) for b in drawn]
    return pairs


def neighbourhood(count: int, each: int, skip: int, generator: np.random.Generator) -> Pairs:
    """Return the ``each`` documents that follow every document.

    Args:
        count: The number of documents.
        each: The number of partners of a document, at most ``count`` - 1.
        skip: It is not used.
        generator: It is not used.
    """
    return [(a, (a + step) % count) for a in range(count) for step in range(1, each + 1)]


def skip_window(count: int, each: int, skip: int, generator: np.random.Generator) -> Pairs:
    """Return ``each`` documents at multiples of ``skip`` after every document.

    Args:
        count: The number of documents.
        each: The number of partners of a document, at most ``count`` - 1.
        skip: The distance between partners, 1 or more.
        generator: It is not used.

    >>> skip_window(5, 2, 2, None)[:4]
    [(0, 2), (0, 4), (1, 3), (1, 0)]
    """
    steps: list[int] = []
    for multiple in range(1, each + 1):
        step = multiple * skip % count
        while step == 0 or step in steps:
            step = (step + 1) % count
        steps.append(step)
    return [(a, (a + step) % count) for a in range(count) for step in steps]


def kwiksort(count: int, pairs: Pairs, outcomes: list[float], generator: np.random.Generator) -> list[int]:
    """Return an order by quicksort with random pivots on the known pairs; unknown or tied ones stay as given.

    Args:
        count: The number of documents.
        pairs: The pairs of positions that were compared.
        outcomes: The outcome of each pair, from 0 (the second is better) to 1 (the first is better).
        generator: The source of the pivots.

    Returns:
        The positions, best first.
    """
    known: dict[tuple[int, int], float] = {}
    for (a, b), outcome in zip(pairs, outcomes):
        known[a, b] = known.get((a, b), 0.0) + outcome - 0.5
        known[b, a] = known.get((b, a), 0.0) + 0.5 - outcome
    done: list[int] = []
    pending = [list(range(count))]
    while pending:
        part = pending.pop()
        if len(part) < 2:
            done += part
            continue
        pivot = part[int(generator.integers(len(part)))]
        better = [d for d in part if d != pivot and (known.get((d, pivot), 0) or pivot - d) > 0]
        chosen = {pivot, *better}
        pending += [[d for d in part if d not in chosen], [pivot], better]
    return done


SAMPLINGS: dict[str, Callable[[int, int, int, np.random.Generator], Pairs]] = {
    "global": global_sample,
    "neighbourhood": neighbourhood,
    "skip-window": skip_window,
}
"""The ways to choose pairs."""
