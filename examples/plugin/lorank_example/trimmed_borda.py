"""Trimmed Borda: the mean of an item's Borda points over all ballots but its best and its worst."""

import numpy as np

import lorank
from lorank.ranking.consensus import Profile


@lorank.consensus("trimmed-borda", title="Borda without the extremes")
def trimmed_borda(profile: Profile) -> np.ndarray:
    """Return one score per item; of an item on fewer than three ballots nothing is left out."""
    _, tied, below = profile.places()
    points = below + tied / 2
    scores = np.zeros(len(profile.items))
    for item in range(len(profile.items)):
        own = np.sort(points[profile.item == item])
        scores[item] = (own[1:-1] if len(own) > 2 else own).mean()
    return scores
