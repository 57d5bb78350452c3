r"""A summary of a document for one query: the sentences that hold most of the query's weight, as token ids.

    score(sentence) = \sum_{t \in sentence \cap query} w_t,    then w_t \leftarrow \alpha w_t for t in what was taken

Sentences are taken greedily until the room is full, the first of equals; what a sentence covers counts less for the
next ones, so that the summary turns to what it does not have yet. They keep the document's order. Where no weight is
left the document's beginning is taken.

Paper: L. Zou et al., Pre-trained Language Model based Ranking in Baidu Search, KDD 2021, algorithm 1 (QUITE).

*Deviations*: weights are 1 for each token of the query unless given (the paper has a term-weighting model); the last
sentence is cut where it does not fit; sentences longer than the room are divided.
"""

from collections.abc import Mapping

import numpy as np

ENDS = (".", "!", "?", ";", "。", "！", "？", "；")
"""Tokens that end a sentence."""


def sentence_starts(ids: np.ndarray, ends: np.ndarray, longest: int) -> np.ndarray:
    """Return where sentences begin, int64: after each token of ``ends``, and every ``longest`` tokens within one.

    >>> sentence_starts(np.array([5, 6, 9, 7, 7, 7, 9]), np.array([9]), 2).tolist()
    [0, 2, 3, 5]
    """
    if not len(ids):
        return np.zeros(0, np.int64)
    begins = np.flatnonzero(np.isin(ids, ends)) + 1
    begins = np.unique(np.concatenate([[0], begins[begins < len(ids)]]))
    sizes = np.diff(np.append(begins, len(ids)))
    return np.concatenate([np.arange(begin, begin + size, longest) for begin, size in zip(begins, sizes)])


def query_weighted_summary(
    query: np.ndarray,
    body: np.ndarray,
    ends: np.ndarray,
    room: int,
    *,
    decay: float = 0.5,
    weights: Mapping[int, float] | None = None,
) -> np.ndarray:
    """Return the ids of the summary, at most ``room`` of them; a body that fits is returned whole.

    Args:
        query: Token ids of the query.
        body: Token ids of the document.
        ends: Ids of tokens that end a sentence.
        room: Most tokens of the summary.
        decay: alpha, from 0 (what is covered counts no more) to 1.
        weights: w by token id; 1 for each token of the query where left out.

    >>> body = np.array([1, 2, 9, 3, 4, 9, 5, 6, 9])
    >>> query_weighted_summary(np.array([5, 3]), body, np.array([9]), 6).tolist()
    [3, 4, 9, 5, 6, 9]
    """
    if len(body) <= room:
        return body
    starts = sentence_starts(body, ends, room)
    stops = np.append(starts[1:], len(body))
    left = {int(token): 1.0 if weights is None else weights.get(int(token), 0.0) for token in query}
    held = [set(body[a:b].tolist()) & left.keys() for a, b in zip(starts, stops)]
    taken: dict[int, int] = {}
    while room > 0 and len(taken) < len(starts):
        scores = [-1.0 if i in taken else sum(left[t] for t in tokens) for i, tokens in enumerate(held)]
        best = int(np.argmax(scores))
        taken[best] = min(room, int(stops[best] - starts[best]))
        room -= taken[best]
        for token in held[best]:
            left[token] *= decay
    return np.concatenate([body[starts[i] : starts[i] + taken[i]] for i in sorted(taken)])
