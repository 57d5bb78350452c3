r"""Ada-Retrieval: the items are found in rounds, and each round knows what the rounds before it found.

    round t of T finds k/T items:   u_t = U( g(I(E[i_1]), ..., I(E[i_n])),  u_1..u_{t-1} ),   s(j) = u_t^T E[j]
    item adapter    I(x) = x + G \sum_j softmax_j( x^T E[j] / \sqrt d ) E[j],   j among the items that were found
    user adapter    U(u) = u + MLP( u, GRU(u_1..u_{t-1}) )
    loss            \sum_t \lambda^{t-1} L_t over the rounds before which the next item was not found

The first round is a recommender f, here `SASRec`, that was trained before and is frozen; g starts as f and learns with
the adapters. What was found is not found again, so that the union has no duplicates.

Paper: L. Li et al., Ada-Retrieval: An Adaptive Multi-Round Retrieval Paradigm for Sequential Recommendations, AAAI
2024.

*Deviations*: both adapters add to what they are given and start at 0, so that untrained rounds find what f finds in one
(the published ones end in a layer norm, and its item adapter passes the found items through a low-pass filter first);
published code trains f on in all rounds, here the first round and the items' vectors stay; a round counts in the loss
only where the next item is still to be found, as it is a later round's task to find what an earlier one missed. Scores
of the union are minus its places, as scores of different rounds do not compare.
"""

from collections.abc import Sequence
from copy import deepcopy
from math import ceil

import numpy as np
import torch
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.ranking.losses import Loss
from lorank.ranking.recommendation.recommender import best_of, on_device_of, padded
from lorank.ranking.recommendation.sasrec import SASRec, SequenceSettings, last_of, next_item_loss

WIDTH = 128
"""The hidden width of the user adapter."""


@catalogued(
    "ada-retrieval",
    area="recsys",
    title="Ada-Retrieval: An Adaptive Multi-Round Retrieval Paradigm for Sequential Recommendations",
    reach="lorank recommend train --method ada-retrieval; it retrieves items for users, not documents, and has no "
    "recipe of a ranker",
)
class AdaRetrieval(nn.Module):
    """A frozen recommender, a copy of it for the later rounds, and the two adapters.

    Args:
        base: The recommender, which is frozen.
        settings: The rounds and sizes.
        seed: The seed of the adapters' first weights; the caller's generator is left as it is.
    """

    def __init__(self, base: SASRec, settings: SequenceSettings, *, seed: int = 0) -> None:
        super().__init__()
        dim, wide = base.items.embedding_dim, WIDTH
        self.base, self.rounds, self.length = base.requires_grad_(False), settings.rounds, base.length
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.later = deepcopy(base.reader).requires_grad_(True)
            self.of_items = nn.Linear(dim, dim, bias=False)
            self.former = nn.GRU(dim, dim, batch_first=True)
            self.of_users = nn.Sequential(nn.Linear(2 * dim, wide), nn.ReLU(), nn.Linear(wide, dim))
        for layer in (self.of_items, self.of_users[-1]):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def train(self, mode: bool = True) -> "AdaRetrieval":
        """Switch the adapters; the base stays as it is used."""
        super().train(mode)
        self.base.eval()
        return self

    def user(self, sequences: Tensor, lengths: Tensor, found: list[Tensor], former: list[Tensor]) -> Tensor:
        """Return the users' vectors of a round, float [users, dim].

        Args:
            sequences: The items of each user, int64 [users, length], padded by 0 at the end.
            lengths: Their numbers, int64 [users].
            found: What each round before found, int64 [users, k/T].
            former: The users' vectors of these rounds, float [users, dim].
        """
        if not found:
            return self.base.users(sequences, lengths)
        context = self.base.items(torch.cat(found, 1))
        vectors = self.base.items(sequences)
        match = (vectors @ context.transpose(1, 2) / vectors.shape[-1] ** 0.5).softmax(2)
        user = last_of(self.later(vectors + self.of_items(match @ context)), lengths)
        _, last = self.former(torch.stack(former, 1))
        return torch.as_tensor(user + self.of_users(torch.cat([user, last[0]], 1)))

    def go(self, sequences: Tensor, lengths: Tensor, left_out: Tensor, top: int) -> tuple[list[Tensor], list[Tensor]]:
        """Return what each round found, int64 [users, its share of ``top``], and the users' vectors of the rounds."""
        found: list[Tensor] = []
        former: list[Tensor] = []
        left_out, users = left_out.clone(), torch.arange(len(sequences), device=sequences.device).unsqueeze(1)
        for left in range(self.rounds, 0, -1):
            share = ceil((top - sum(each.shape[1] for each in found)) / left)
            if share < 1:
                break
            former.append(self.user(sequences, lengths, found, former))
            with torch.no_grad():
                best, _ = best_of(self.base.scores(former[-1]), left_out, share)
                left_out[users, best] = True
            found.append(best)
        return found, former

    def retrieve(self, sequences: Tensor, lengths: Tensor, left_out: Tensor, top: int) -> tuple[Tensor, Tensor]:
        """Return the union of the rounds in their order, and scores that fall with the place."""
        best = torch.cat(self.go(sequences, lengths, left_out, top)[0], 1)
        free = (~left_out).sum(1, keepdim=True)
        place = torch.arange(best.shape[1], device=best.device).expand_as(best)
        return best, torch.where(place < free, -place.float(), -torch.inf)


def rounds_loss(
    model: AdaRetrieval,
    rows: Sequence[np.ndarray],
    settings: SequenceSettings,
    loss: Loss,
    generator: torch.Generator,
    *,
    repeats: bool = False,
) -> Tensor:
    """Return the loss of a batch of users: in each later round the next item, where it was not found before.

    Args:
        model: The recommender with its adapters, in training mode.
        rows: What each user chose, places from 1, two items or more; each is cut at a drawn place.
        settings: How many items are found and drawn, and what a later round counts.
        loss: A loss of lists.
        generator: The source of cuts and negatives.
        repeats: Whether an item may be chosen again.
    """
    items = len(model.base.items.weight) - 1
    cuts = [int(torch.randint(1, len(row), (1,), generator=generator)) for row in rows]
    target = torch.tensor([int(row[cut]) for row, cut in zip(rows, cuts, strict=True)])
    before = padded([row[:cut] for row, cut in zip(rows, cuts, strict=True)], model.length)
    sequences, lengths, target = on_device_of(model, *before, target)
    users = torch.arange(len(rows), device=target.device).unsqueeze(1)
    left_out = torch.zeros(len(rows), items + 1, dtype=torch.bool, device=target.device)
    left_out[:, 0] = True
    if not repeats:
        left_out[users, sequences] = True
    found, vectors = model.go(sequences, lengths, left_out, min(settings.top, items))
    missed = torch.ones_like(target, dtype=torch.bool)
    total = model.of_items.weight.sum() * 0.0
    for number, (best, user) in enumerate(zip(found, vectors, strict=True)):
        if number and bool(missed.any()):
            part = user[missed], target[missed], model.base.items.weight, settings.negatives
            total = total + settings.decay**number * next_item_loss(*part, loss, generator, left_out[missed])
        missed = missed & ~(best == target.unsqueeze(1)).any(1)
        left_out[users, best] = True
    return total
