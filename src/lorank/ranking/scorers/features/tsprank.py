r"""TSPRank: a ranking is the open tour that maximises the scores of its neighbouring pairs.

    e_i = encoder(x_i),   a_ij = e_i^T W e_j,   ranking = \arg\max_\pi \sum_p a_{\pi_p \pi_{p+1}}

    local     - \sum_i \sum_j t_ij \log \frac{\exp(a_ij)}{\sum_{k \ne i} \exp(a_ik)}
    global    \max(0, \max_\pi [ score(\pi) + cost(\pi) ] - score(\pi*)),  cost the number of steps that are wrong

With distinct labels t_ij is 1 for the successor j of i in the order of labels; where labels tie it is the chance that j
follows i when ties are broken at random: 1 / m for each other document of i's grade (m in all), the rest shared by the
next grade below. The right tour \pi* is the best one that visits grades in descending order; a step i -> j is wrong
when t_ij = 0. A document's score is minus its place.

Paper: W. Yan et al., TSPRank: Bridging Pairwise and Listwise Methods with a Bilinear Travelling Salesman Model,
KDD 2025.

*Deviations*: the paper's data has total orders; ties are treated as above. Inference is exact up to 12 documents
and beyond it a beam search whose tours are improved by block moves, which need not find the best tour (the paper uses a
solver); the mean over steps, so that long lists do not drown short ones.
"""

import torch
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.ranking.losses.core.lists import choose, clean, lowest_score
from lorank.ranking.scorers.features.mlp import seeded_linear
from lorank.ranking.scorers.features.networks import by_own_objective, register_network
from lorank.ranking.scorers.features.set_transformer import SetTransformer
from lorank.ranking.scorers.features.tours import best_tour, tour_score


def successor_chances(labels: Tensor, mask: Tensor) -> Tensor:
    """Return the chance that j follows i in a random order of falling labels, [batch, list, list].

    >>> successor_chances(torch.tensor([[2.0, 0.0, 0.0]]), torch.ones(1, 3, dtype=torch.bool))
    tensor([[[0.0000, 0.5000, 0.5000],
             [0.0000, 0.0000, 0.5000],
             [0.0000, 0.5000, 0.0000]]])
    """
    labels = labels.double().masked_fill(~mask, -torch.inf)
    own, other = labels.unsqueeze(2), labels.unsqueeze(1)
    below = torch.where(other < own, other, -torch.inf)
    both = mask.unsqueeze(1) & mask.unsqueeze(2)
    same = (other == own) & both
    next_below = (below == below.amax(2, keepdim=True)) & (other < own) & both
    as_many = 1 / same.sum(2, keepdim=True).clamp(min=1)
    chances = same * as_many + next_below * as_many / next_below.sum(2, keepdim=True).clamp(min=1)
    return chances.masked_fill(torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device), 0.0)


def local_loss(pairs: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Return each list's mean cross entropy of its documents' successors, [batch]; the last document has none."""
    chances = successor_chances(labels, mask)
    others = mask.unsqueeze(1) & ~torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
    log_share = pairs.masked_fill(~others, lowest_score(pairs)).log_softmax(2)
    return -(chances * log_share).sum((1, 2)) / chances.sum((1, 2)).clamp(min=1)


def global_loss(pairs: Tensor, labels: Tensor, mask: Tensor, beam: int = 8) -> Tensor:
    """Return each list's margin loss, [batch]: best tour with costs, less the right tour, per step.

    Args:
        pairs: The scores [batch, list, list] of a step from one document to another.
        labels: The grades [batch, list].
        mask: The bool [batch, list] grid, True where there is a document.
        beam: The width of the beam search for the best tour, 1 or more.
    """
    sizes = mask.sum(1)
    cost = 1.0 - (successor_chances(labels, mask) > 0).to(pairs.dtype)
    rival = best_tour(pairs.detach() + cost, mask, beam=beam)
    right = best_tour(pairs, mask, labels, beam=beam)
    gap = tour_score(pairs + cost, rival, sizes) - tour_score(pairs + cost, right, sizes)
    return gap.clamp(min=0) / (sizes - 1).clamp(min=1)


OBJECTIVES = {"local": local_loss, "global": global_loss}


class TourRanker(nn.Module):
    """Encode a list and score each step of a tour by a bilinear form.

    Args:
        features: The number of columns of a row.
        generator: The source of the first weights.
        learning: The name of an objective in ``OBJECTIVES``.
        width: The size of the hidden state, a multiple of ``heads``.
        heads: The number of attention heads, 1 or more.
        blocks: The number of blocks of the encoder, 0 or more.
        dropout: The probability of dropout, from 0 up to but not including 1.
        beam: The width of the beam search for the best tour, 1 or more.
    """

    def __init__(
        self,
        features: int,
        generator: torch.Generator,
        learning: str,
        width: int,
        heads: int,
        blocks: int,
        dropout: float,
        beam: int,
    ) -> None:
        super().__init__()
        self.loss, self.beam = choose("learning", learning, OBJECTIVES), beam
        self.encoder = SetTransformer(features, generator, width, heads, blocks, dropout)
        self.bilinear = seeded_linear(width, width, generator, 1.0)
        self.width = width

    def pairs(self, rows: Tensor, mask: Tensor) -> Tensor:
        """Return a_ij of every two documents, [batch, list, list]."""
        states: Tensor = self.encoder(rows, mask)
        projected: Tensor = self.bilinear(states)
        return states @ projected.transpose(1, 2) / float(self.width**0.5)

    def forward(self, rows: Tensor, mask: Tensor) -> Tensor:
        """Return minus the places of the best tour, [batch, list]; no gradient runs through them."""
        order = best_tour(self.pairs(rows, mask), mask, beam=self.beam)
        place = torch.arange(order.shape[1], device=order.device, dtype=torch.float32).expand(order.shape)
        return torch.zeros_like(place).scatter(1, order, -place)

    def objective(self, rows: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        """Return the mean over lists that carry signal of the chosen loss."""
        pairs = self.pairs(rows, mask)
        lists = clean(torch.zeros(mask.shape), labels, mask)
        return lists.mean(self.loss(pairs, lists.labels, mask))


@catalogued(
    "tsprank",
    area="models",
    title="TSPRank: Bridging Pairwise and Listwise Methods with a Bilinear Travelling Salesman Model",
)
@register_network("tsprank", across=True, learn=by_own_objective)
def tsprank(
    features: int,
    generator: torch.Generator,
    *,
    learning: str = "local",
    width: int = 64,
    heads: int = 2,
    blocks: int = 1,
    dropout: float = 0.1,
    beam: int = 8,
) -> nn.Module:
    """Return the network.

    Args:
        features: Columns of a row.
        generator: Where weights come from.
        learning: ``local`` (successors) or ``global`` (whole tours).
        width: Of the documents' states, a multiple of ``heads``.
        heads: Of the encoder's attention.
        blocks: Of the encoder, which looks across the list; 0 encodes each document by itself.
        dropout: Share of each sublayer's output that a training step leaves out.
        beam: Partial tours kept on lists of more than twelve documents, where the tour found need not be the best.
    """
    if beam < 1:
        raise UsageError(f"beam must be 1 or more; got {beam}")
    return TourRanker(features, generator, learning, width, heads, blocks, dropout, beam)
