"""A log seen from a new ranker: the rows that estimators of its worth read.

For ``ips``, ``snips`` and ``dr`` the ranker is a policy that puts its k-th document of a query at position k, and a
shown
document has weight 1 / p where that is the one that was shown there, p being the propensity that the log states, else
0. For
``position`` the ranker puts the documents of each shown list in its own order, and weights are ratios of examinations.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from lorank.data.clicks import Impression
from lorank.errors import DataError
from lorank.ranking.clicks import ClickModel, Propensities, Sessions
from lorank.ranking.clicks.core.estimate import LoggedRows
from lorank.ranking.clicks.estimators.position import position_weights


def documents_by_query(impressions: Iterable[Impression]) -> dict[str, list[str]]:
    """Return the documents that a log shows for each query: what a ranker chooses from."""
    found: dict[str, dict[str, None]] = {}
    for each in impressions:
        found.setdefault(each.query_id, {}).update(dict.fromkeys(each.doc_ids))
    return {query: list(row) for query, row in found.items()}


def rows_of_policy(
    impressions: Iterable[Impression],
    order: Mapping[str, Sequence[str]],
    path: Path,
    model: ClickModel | None = None,
    sessions: Sessions | None = None,
) -> LoggedRows:
    """Return the rows for ips, snips and dr.

    Args:
        impressions: The log.
        order: The new ranker's documents of each query, best first.
        path: The log, which errors name.
        model: A click model fitted to ``sessions``, whose clicks serve ``dr``; None leaves them out.
        sessions: The sessions that the model was fitted to.

    Raises:
        DataError: With file and line, where an impression states no propensities.
    """
    rewards, weights, groups = list[float](), list[float](), list[int]()
    shown, wanted = list[tuple[str, str, int]](), list[tuple[str, str, int]]()
    for number, each in enumerate(impressions):
        if each.propensities is None:
            raise DataError(
                path, each.line or None, "the list states no propensities", "log them, or take --estimator position"
            )
        own = order.get(each.query_id, [])
        for document, click, chance, k in zip(each.doc_ids, each.clicks, each.propensities, each.places, strict=True):
            chosen = own[k - 1] if k <= len(own) else None
            rewards.append(float(click))
            weights.append(1 / chance if chosen == document else 0.0)
            groups.append(number)
            shown.append((each.query_id, document, k))
            wanted.append((each.query_id, chosen or document, k))
    made = LoggedRows(np.array(rewards), np.array(weights), np.array(groups))
    if model is None or sessions is None:
        return made
    predicted, baseline = _predict(model, shown), _predict(model, wanted)
    return LoggedRows(made.rewards, made.weights, made.groups, predicted, baseline)


def _predict(model: ClickModel, slots: Sequence[tuple[str, str, int]]) -> np.ndarray:
    """Return the probability of a click on each (query, document, position) by a model that knows positions alone."""
    number = {name: i for i, name in enumerate(model.names)}
    pairs = np.array([number.get((query, document), -1) for query, document, _ in slots], np.int64)
    places = np.array([k for _, _, k in slots])
    found = np.zeros(len(slots))
    for k in np.unique(places):
        at = places == k
        found[at] = model.probability(model.start(int(at.sum())), int(k) - 1, pairs[at])
    return found


def rows_of_order(
    impressions: Iterable[Impression], order: Mapping[str, Sequence[str]], curve: Propensities, most: float = 100.0
) -> LoggedRows:
    """Return the rows for the position-based estimator.

    Args:
        impressions: The log.
        order: The new ranker's documents of each query, best first; those that it lacks come last.
        curve: The examination of positions.
        most: The largest weight.
    """
    rewards, old, new, groups = list[float](), list[int](), list[int](), list[int]()
    ranks: dict[str, dict[str, int]] = {}
    for number, each in enumerate(impressions):
        if each.query_id not in ranks:
            ranks[each.query_id] = {d: i for i, d in enumerate(order.get(each.query_id, []))}
        rank = ranks[each.query_id]
        places = sorted(each.places)
        best = sorted(range(len(each)), key=lambda i: rank.get(each.doc_ids[i], len(rank)))
        moved = {i: places[k] for k, i in enumerate(best)}
        for i, (click, k) in enumerate(zip(each.clicks, each.places, strict=True)):
            rewards.append(float(click))
            old.append(k)
            new.append(moved[i])
            groups.append(number)
    weights = position_weights(np.array(old), np.array(new), curve.curve, most)
    return LoggedRows(np.array(rewards), weights, np.array(groups), known_mean=False)
