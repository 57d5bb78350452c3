"""Ratings from a file, and recommendations as a run."""

from pathlib import Path

import torch
from torch import Tensor

from lorank.data.files import open_text
from lorank.errors import DataError, UsageError
from lorank.federated.private_als import PrivateALS, Ratings
from lorank.ranking.types import Run


def read_ratings(path: Path, low: float, high: float) -> tuple[list[str], list[str], Ratings]:
    """Return the names of users and items, and the ratings moved to [-1, 1].

    Args:
        path: Rows of user, item and rating, separated by tabs.
        low: The lowest rating that there can be.
        high: The highest.

    Raises:
        DataError: If a row is not of that form, or a rating out of bounds.
    """
    if not low < high:
        raise UsageError(f"--low {low:g} --high {high:g}: give two bounds, the lower first")
    users: dict[str, int] = {}
    items: dict[str, int] = {}
    rows: dict[tuple[int, int], float] = {}
    for number, line in enumerate(open_text(path), 1):
        cells = line.rstrip("\n").split("\t")
        try:
            user, item, value = cells[0], cells[1], float(cells[2])
        except (IndexError, ValueError) as error:
            raise DataError(path, number, "no user, item and rating", "separate them by tabs") from error
        if not low <= value <= high:
            raise DataError(path, number, f"rating {value:g} is out of [{low:g}, {high:g}]", "give --low and --high")
        pair = users.setdefault(user, len(users)), items.setdefault(item, len(items))
        rows[pair] = 2 * (value - low) / (high - low) - 1
    if not rows:
        raise DataError(path, None, "no rating", "write user, item and rating, separated by tabs")
    who, what = (torch.tensor(each) for each in zip(*rows, strict=True))
    return list(users), list(items), Ratings(who, what, torch.tensor(list(rows.values()), dtype=torch.float64))


def recommended(als: PrivateALS, ratings: Ratings, V: Tensor, users: list[str], items: list[str], top: int) -> Run:
    """Return the ``top`` best items of each user that it has not rated, as a run whose queries are the users."""
    U = als.user_factors(ratings, V, len(users))
    run: Run = {}
    for place, user in enumerate(users):
        scores = V @ U[place]
        scores[ratings.items[ratings.users == place]] = -torch.inf
        best = scores.topk(min(top, len(items)))
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        run[user] = {items[item]: value for item, value in pairs if value > -torch.inf}
    return run
