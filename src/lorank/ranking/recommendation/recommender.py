"""The contract of recommenders of sequences, and how they are judged: by the one item that came next."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

BATCH = 256


class Recommender(Protocol):
    """What finds the items that users choose next."""

    length: int

    def retrieve(self, sequences: Tensor, lengths: Tensor, left_out: Tensor, top: int) -> tuple[Tensor, Tensor]:
        """Return the best ``top`` items of each user and their scores, both [users, top], best first.

        Args:
            sequences: The places of the users' items, int64 [users, length], padded by 0 at the end.
            lengths: How many items each has, int64 [users], 1 or more.
            left_out: What is never found, bool [users, items + 1]; place 0 is no item.
            top: How many items are found, 1 or more; places that are left over have the score -inf.
        """
        ...


def padded(rows: Sequence[np.ndarray], length: int) -> tuple[Tensor, Tensor]:
    """Return the last ``length`` items of each row, int64 [rows, longest], padded by 0 at the end, and their numbers.

    >>> items, lengths = padded([np.array([4, 5, 6]), np.array([7])], 2)
    >>> items.tolist(), lengths.tolist()
    ([[5, 6], [7, 0]], [2, 1])
    """
    kept = [row[-length:] for row in rows]
    lengths = torch.tensor([len(row) for row in kept])
    items = torch.zeros(len(kept), max(int(lengths.max()), 1), dtype=torch.int64)
    for place, row in enumerate(kept):
        items[place, : len(row)] = torch.from_numpy(row)
    return items, lengths


def on_device_of(model: object, *tensors: Tensor) -> tuple[Tensor, ...]:
    """Return tensors where the weights of a recommender are; as they are for one without weights."""
    first = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    return tensors if first is None else tuple(each.to(first.device) for each in tensors)


def best_items(
    model: Recommender, rows: Sequence[np.ndarray], items: int, top: int, *, repeats: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return the best ``top`` items of each user and their scores, both [users, top], best first.

    Args:
        model: The recommender.
        rows: What each user chose, places from 1, in the order of time.
        items: The number of items.
        top: How many are found, at most ``items``.
        repeats: Whether an item that the user chose before may be found again.
    """
    found, scores = [], []
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        sequences, lengths = padded(part, model.length)
        left_out = torch.zeros(len(part), items + 1, dtype=torch.bool)
        left_out[:, 0] = True
        if not repeats:
            for place, row in enumerate(part):
                left_out[place, torch.from_numpy(row)] = True
        sequences, lengths, left_out = on_device_of(model, sequences, lengths, left_out)
        with torch.no_grad():
            best, values = model.retrieve(sequences, lengths, left_out, min(top, items))
        found.append(best.cpu().numpy())
        scores.append(values.cpu().numpy())
    return np.concatenate(found), np.concatenate(scores)


def next_item_measures(found: np.ndarray, following: np.ndarray) -> dict[str, float]:
    """Return recall and nDCG of lists int64 [users, top] where one item int64 [users] is relevant.

    >>> next_item_measures(np.array([[1, 3], [2, 4]]), np.array([1, 5]))
    {'recall': 0.5, 'nDCG': 0.5}
    """
    right = found == following[:, None]
    gains = 1 / np.log2(np.arange(found.shape[1]) + 2)
    return {"recall": float(right.any(1).mean()), "nDCG": float((right @ gains).mean())}


def best_of(scores: Tensor, left_out: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """Return the places of the best ``top`` scores [users, items + 1] that are not left out, and those scores."""
    best = scores.masked_fill(left_out, -torch.inf).topk(min(top, scores.shape[1]), 1)
    return best.indices, best.values
