"""How a budget of ranks is shared out over layers in proportion to a share of each."""

from collections.abc import Mapping


def share_ranks(shares: Mapping[str, float], limits: Mapping[str, tuple[int, int]], budget: int) -> dict[str, int]:
    """Return integers in proportion to ``shares``, within each layer's (least, most), that sum to ``budget``.

    Each next rank goes to the layer whose rank is furthest below its share; where the limits do not let the
    budget be met, the sum is as near as they let it.

    >>> share_ranks({"a": 3.0, "b": 1.0}, {"a": (0, 9), "b": (0, 9)}, 8)
    {'a': 6, 'b': 2}
    >>> share_ranks({"a": 3.0, "b": 1.0}, {"a": (0, 4), "b": (0, 9)}, 8)
    {'a': 4, 'b': 4}
    """
    ranks = {path: limits[path][0] for path in shares}
    total = sum(shares.values())
    while sum(ranks.values()) < budget:
        open_ = [path for path in ranks if ranks[path] < limits[path][1]]
        if not open_:
            break
        wanted = {path: budget * (shares[path] / total if total else 1 / len(shares)) for path in open_}
        ranks[max(open_, key=lambda path: wanted[path] - ranks[path])] += 1
    return ranks
