r"""How much two ranked lists overlap.

    RBO_p(A, B) = (1 - p) / (1 - p^n) \sum_{d=1}^{n} p^{d-1} |A_d \cap B_d| / d
    Jaccard@k   = |A_k \cap B_k| / |A_k \cup B_k|

RBO is taken over the n places that there are and scaled so that equal lists have exactly 1; p = 1 gives the average
overlap.

Paper: W. Webber, A. Moffat and J. Zobel, A Similarity Measure for Indefinite Rankings, 2010.
"""

from collections.abc import Hashable, Sequence

from lorank.errors import UsageError


def rank_biased_overlap(first: Sequence[Hashable], second: Sequence[Hashable], persistence: float = 0.9) -> float:
    """Return the rank-biased overlap of two lists, 0 to 1; lists of different length are compared to the longer.

    Args:
        first: The items, best first, each once.
        second: The items, best first, each once.
        persistence: p, above 0 and at most 1: the smaller, the more the first places count.

    >>> rank_biased_overlap("abc", "abc"), rank_biased_overlap("ab", "cd")
    (1.0, 0.0)
    """
    if not 0 < persistence <= 1:
        raise UsageError(f"the persistence of RBO lies above 0 and at most at 1, not at {persistence}")
    length = max(len(first), len(second))
    if not length:
        return 1.0
    seen_first: set[Hashable] = set()
    seen_second: set[Hashable] = set()
    total = weights = 0.0
    for depth in range(1, length + 1):
        seen_first.update(first[depth - 1 : depth])
        seen_second.update(second[depth - 1 : depth])
        weight = persistence ** (depth - 1)
        total += weight * len(seen_first & seen_second) / depth
        weights += weight
    return total / weights


def jaccard(first: Sequence[Hashable], second: Sequence[Hashable], depth: int = 10) -> float:
    """Return the shared part of the first ``depth`` places of two lists; two empty lists share all.

    >>> round(jaccard("abcd", "abef", 4), 4)
    0.3333
    """
    one, other = set(first[:depth]), set(second[:depth])
    return len(one & other) / len(one | other) if one | other else 1.0
