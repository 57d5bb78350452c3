"""The planner: which strategy gives the best order for the money, before a question is paid for.

Queries are simulated: each of n documents has a grade drawn from ``grades``, the first stage orders them by
grade + N(0, first_stage_noise^2), and the judge is an :class:`~lorank.ranking.judges.Oracle` of a given noise. A judge
that puts two documents one grade apart in the right order with probability p has, by Thurstone's model,

    noise = 1 / (sqrt(2) * Phi^-1(p)).

Every strategy ranks the same queries within the same budget. The recommended one is the cheapest in tokens of those
whose mean nDCG@k is below the best by no more than ``slack``, or by one standard error of the paired difference.

What the simulation does not know: a judge whose noise grows with the number of documents that it is shown; measure
the noise with the kind of question that is to be asked, and set ``longest`` to what the judge still reads well.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtri

from lorank.errors import UsageError
from lorank.ranking.judges import KINDS, Budget, Oracle, Usage
from lorank.ranking.strategies.reranking import rerank

Candidate = tuple[str, Mapping[str, Any]]
"""A strategy's name and its options."""


@dataclass(frozen=True)
class Forecast:
    """What one strategy is expected to give and cost for a query.

    Attributes:
        strategy: Its name.
        options: Its options.
        ndcg: Mean nDCG@k (linear gain).
        standard_error: Of ``ndcg``.
        calls: Mean calls.
        rounds: Mean rounds, one after the other.
        tokens: Mean tokens in and out.
        stopped: Share of the queries in which the budget ran out.
        recommended: Whether this is the one to take.
    """

    strategy: str
    options: Mapping[str, Any]
    ndcg: float
    standard_error: float
    calls: float
    rounds: float
    tokens: float
    stopped: float
    recommended: bool = False


def noise_of_agreement(share: float) -> float:
    """Return the noise of a judge that orders documents one grade apart rightly in ``share`` of the cases.

    >>> round(noise_of_agreement(0.8), 3)
    0.84
    """
    if not 0.5 < share < 1:
        raise UsageError(f"the share of right answers must be above 0.5 and below 1, got {share}")
    return float(1 / (math.sqrt(2) * ndtri(share)))


def candidates(count: int, top: int, longest: int = 20) -> list[Candidate]:
    """Return the strategies worth comparing for ``count`` documents and a judge that reads ``longest`` at once."""
    fits = min(longest, count)
    found: list[Candidate] = [
        ("pointwise", {}),
        ("prp", {"method": "heapsort"}),
        ("prp", {"method": "sliding"}),
        ("prp", {"method": "quicksort"}),
        ("sparse-pairwise", {"share": min(1.0, 10 / max(count - 1, 1))}),
    ]
    if count <= 100:
        found.append(("prp", {"method": "all-pairs"}))
    if fits >= 4:
        found += [
            ("setwise", {"size": 4}),
            ("listt5", {"size": min(5, fits)}),
            ("top-down", {"size": fits}),
            ("grouprank", {"size": fits}),
            ("sliding", {"size": fits, "step": fits // 2}),
            ("first", {"size": fits, "step": fits // 2}),
        ]
        found += [("jointrank", {"size": fits, "replicates": r}) for r in (2, 4, 8)]
    if longest >= count:
        found += [("full", {}), ("permutation-self-consistency", {"shuffles": 10}), ("iranker", {})]
    return found


def plan(
    count: int = 100,
    top: int = 10,
    *,
    noise: float = 1.0,
    position_bias: float = 0.0,
    malformed: float = 0.0,
    budget: Budget | None = None,
    kinds: Iterable[str] = KINDS,
    longest: int = 20,
    grades: Sequence[float] = (0.8, 0.1, 0.06, 0.04),
    first_stage_noise: float = 1.0,
    query_words: int = 10,
    document_words: int = 100,
    queries: int = 20,
    slack: float = 0.01,
    seed: int = 0,
    compare: Sequence[Candidate] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Forecast]:
    """Return what each strategy is expected to give and cost, the best first, one of them recommended.

    Args:
        count: Documents a query.
        top: How many first places matter.
        noise: The judge's noise, in grades; see ``noise_of_agreement``.
        position_bias: What the first place shown gains over the last, in grades.
        malformed: Probability that an answer is nonsense.
        budget: The most that a query may cost.
        kinds: The kinds of question that the judge answers.
        longest: The most documents that it reads well in one question.
        grades: Shares of the documents of grade 0, 1, 2, ...; they sum to 1.
        first_stage_noise: How far the order that comes in is from the right one, in grades.
        query_words: Words of a query.
        document_words: Words of a document.
        queries: Queries simulated.
        slack: The nDCG that one gives up for a cheaper strategy.
        seed: Of everything drawn.
        compare: The strategies to compare, by default ``candidates``.
        on_progress: Receives (strategies done, of how many).

    >>> best = plan(20, 5, noise=0.0, queries=2, compare=[("pointwise", {}), ("full", {})])[0]
    >>> best.ndcg, best.recommended
    (1.0, True)
    """
    if count < 1 or top < 1 or longest < 2 or queries < 2:
        raise UsageError("a plan needs 1 document or more, top 1 or more, longest 2 or more, and 2 queries or more")
    if min(grades) < 0 or not math.isclose(sum(grades), 1.0, abs_tol=1e-6):
        raise UsageError(f"the shares of the grades must be 0 or above and sum to 1, got {tuple(grades)}")
    drawn = _draw_queries(count, grades, first_stage_noise, queries, seed)
    texts = [" ".join(["word"] * document_words)] * count
    simulated: list[tuple[Forecast, np.ndarray]] = []
    chosen = candidates(count, top, longest) if compare is None else compare
    for number, (name, options) in enumerate(chosen):
        if on_progress is not None:
            on_progress(number, len(chosen))
        judges = [
            Oracle(labels, noise, position_bias=position_bias, malformed=malformed, seed=seed + i, kinds=kinds)
            for i, labels in enumerate(drawn)
        ]
        if not _asks_only(name, options, judges[0].kinds):
            continue
        done = [
            rerank(
                " ".join(["word"] * query_words), texts, judge, name, top=top, budget=budget, seed=seed + i, **options
            )
            for i, judge in enumerate(judges)
        ]
        quality = np.array([_ndcg(labels, one.order, top) for labels, one in zip(drawn, done)])
        cost = sum((one.usage for one in done), Usage())
        stopped = sum(not one.complete for one in done)
        simulated.append(
            (
                Forecast(
                    name,
                    options,
                    float(quality.mean()),
                    float(quality.std(ddof=1) / math.sqrt(queries)),
                    cost.calls / queries,
                    cost.rounds / queries,
                    cost.tokens / queries,
                    stopped / queries,
                ),
                quality,
            )
        )
    if on_progress is not None:
        on_progress(len(chosen), len(chosen))
    return _recommend(simulated, slack)


def _draw_queries(
    count: int, grades: Sequence[float], first_stage_noise: float, queries: int, seed: int
) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    drawn = []
    for _ in range(queries):
        labels = generator.choice(len(grades), count, p=np.asarray(grades) / sum(grades)).astype(np.float64)
        labels[generator.integers(count)] = len(grades) - 1
        drawn.append(labels[np.argsort(-(labels + first_stage_noise * generator.standard_normal(count)))])
    return drawn


def _asks_only(name: str, options: Mapping[str, Any], kinds: frozenset[str]) -> bool:
    try:
        rerank("", ["", "", ""], Oracle([0, 1, 2], kinds=kinds), name, **options)
    except UsageError as error:
        if "does not answer" in str(error):
            return False
        raise
    return True


def _ndcg(labels: np.ndarray, order: Sequence[int], top: int) -> float:
    discount = 1 / np.log2(np.arange(2, min(top, len(labels)) + 2))
    return float(labels[list(order[:top])] @ discount / (np.sort(labels)[::-1][:top] @ discount))


def _recommend(simulated: list[tuple[Forecast, np.ndarray]], slack: float) -> list[Forecast]:
    if not simulated:
        raise UsageError("no strategy asks only the kinds of question that this judge answers")
    ranked = sorted(simulated, key=lambda pair: (-pair[0].ndcg, pair[0].tokens))
    best = ranked[0][1]
    as_good = [
        forecast
        for forecast, quality in ranked
        if (best - quality).mean() <= max(slack, (best - quality).std(ddof=1) / math.sqrt(len(best)))
    ]
    chosen = min(as_good, key=lambda forecast: forecast.tokens)
    return [Forecast(**{**vars(forecast), "recommended": forecast is chosen}) for forecast, _ in ranked]
