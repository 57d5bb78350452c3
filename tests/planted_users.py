"""Users of several interests: items come in groups, a user chooses from a few of them in turns without order."""

import numpy as np
import torch

GROUPS, PER_GROUP = 24, 8
"""Groups of items on a circle, and the items of each."""


def interested_users(seed, users=800, groups=30, per_group=8, interests=2, length=10):
    """Return what each user chose, places from 1, and the number of items."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(users):
        own = rng.choice(groups, interests, replace=False)
        pool = np.concatenate([group * per_group + 1 + np.arange(per_group) for group in own])
        rows.append(rng.permutation(pool)[:length].astype(np.int64))
    return rows, groups * per_group


def write_log(path, rows):
    """Write a log of user, item and time whose rows are not in the order of time."""
    events = [(f"u{user}", f"i{item}", place) for user, row in enumerate(rows) for place, item in enumerate(row)]
    order = np.random.default_rng(0).permutation(len(events))
    text = "".join("{},{},{}\n".format(*events[at]) for at in order)
    path.write_text("userId,movieId,timestamp\n" + text)


def users_of_two_sides(seed, users=600):
    """Return what users chose who have two interests, far from each other on the circle, and the number of items."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(users):
        first = rng.integers(GROUPS)
        second = (first + rng.integers(GROUPS // 3, 2 * GROUPS // 3 + 1)) % GROUPS
        pool = np.concatenate([group * PER_GROUP + 1 + np.arange(PER_GROUP) for group in (first, second)])
        rows.append(rng.permutation(pool)[:10].astype(np.int64))
    return rows, GROUPS * PER_GROUP


def on_a_circle(dim, norm=4.0):
    """Return vectors of the items, float32 [items + 1, dim], those of a group at one point of a circle.

    The best items of any one user's vector lie side by side there, so that no vector finds both of two interests.
    """
    angle = 2 * np.pi * (np.arange(GROUPS * PER_GROUP) // PER_GROUP) / GROUPS
    table = torch.zeros(GROUPS * PER_GROUP + 1, dim)
    table[1:, 0], table[1:, 1] = torch.tensor(norm * np.cos(angle)), torch.tensor(norm * np.sin(angle))
    return table
