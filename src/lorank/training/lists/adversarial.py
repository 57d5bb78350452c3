r"""Negatives that a retriever draws itself: by its softmax over the best documents that it finds at this step.

    p(d) = softmax(s(q, d)) over the best ``width`` documents that are not relevant;  ``draws`` of them, independently

A list holds all of these documents, so that a loss knows p, and ``draws`` says how often each of them was drawn: 0 for
most. The vectors of documents are held, so the documents that were not drawn cost one product each.

Paper: Zhang, Gong, Shen, Lv, Duan, Chen 2021, *Adversarial Retriever-Ranker for dense text retrieval*,
arXiv:2110.03611.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from lorank.data.candidates import TrainingList
from lorank.training.lists.batches import ListBatch
from lorank.training.lists.negatives import LiveLists

DRAWS = 15
"""The draws of a list, where the recipe does not say how many: those of the paper."""


@dataclass
class AdversarialLists(LiveLists):
    """Lists of the encoder's best ``width`` documents, of which ``draws`` are drawn by its own softmax."""

    draws: int = DRAWS
    _counts: dict[str, Counter[int]] = field(default_factory=dict, init=False, repr=False)

    def collate(self, lists: Sequence[TrainingList]) -> ListBatch:
        """Find the best documents of each list and draw from them."""
        self._counts = {}
        return super().collate(lists)

    def take(self, drawn: TrainingList, hard: np.ndarray, similarities: np.ndarray) -> np.ndarray:
        """Draw documents, as a function of the seed, the epoch, the query and the encoder; the list holds all."""
        assert self.encoder is not None
        epoch = 0 if self._drawn is None else self._drawn[0]
        rng = np.random.default_rng([self.seed, epoch, self.query_at[drawn.query_id], 2])
        chance = chances(similarities / self.encoder.temperature)
        self._counts[drawn.query_id] = Counter(rng.choice(hard, self.draws, p=chance).tolist())
        return super().take(drawn, hard, similarities)

    def draws_of(self, lists: Sequence[TrainingList], batch: ListBatch) -> Tensor:
        """Return how often each document was drawn, float32 [batch, list]."""
        rows = [
            [self._counts[each.query_id][document] for document in documents]
            for each, documents in zip(lists, batch.documents.tolist(), strict=True)
        ]
        return torch.tensor(rows, dtype=torch.float32).view(batch.documents.shape) * batch.mask


def chances(scores: np.ndarray) -> np.ndarray:
    """Return the softmax float64 [n] of scores.

    >>> chances(np.log(np.array([1.0, 3.0]))).tolist()
    [0.25, 0.75]
    """
    weight = np.exp(np.asarray(scores, np.float64) - np.max(scores))
    return np.asarray(weight / weight.sum())


def adversarial_lists(lists: LiveLists, depth: int, draws: int | None) -> AdversarialLists:
    """Return live lists as lists that draw ``draws`` of the best ``depth``; None takes `DRAWS`."""
    own = {name: getattr(lists, name) for name in LiveLists.__dataclass_fields__ if name[0] != "_"}
    return AdversarialLists(**own | {"width": depth}, draws=DRAWS if draws is None else draws)
