r"""AdaptDHM: one tower per distribution of the rows, and a routing that says how much of each a row is.

    \pi_k(x) = softmax_k( cos(x, c_k) / \tau )                                       no gradient passes here
    route, ``rounds`` times:  c_k <- \sum_i \pi_k(x_i) x_i / \sum_i \pi_k(x_i)       over the rows of a batch
    centres:   C_k <- m C_k + (1 - m) c_k                                            in training alone
    tower k:   h <- ReLU( (W \odot W_k) h + b + b_k ),   W shared
    s(x) = \sum_k \pi_k(x) tower_k(x)

W_k starts at 1, and at 0 in the last layer: every score starts at 0, and towers can part there at once.

The distributions (domains, shops, kinds of query) are not given: they are found in the rows. With one cluster the model
is a single tower with the weights W \odot W_1. A row is scored by the kept centres, so that it does not depend on the
rows beside it.

Paper: J. Li et al. 2022, *AdaptDHM: Adaptive Distribution Hierarchical Model for Multi-Domain CTR Prediction*,
arXiv:2211.12105.

*Deviations*: no code is public. The coefficients of a batch come from the kept centres, and its routing moves them for
the next one; rows are features on one scale in the place of looked-up embeddings. Any loss of lists trains it; the
paper's is ``bce``.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.ranking.losses import loss as named_loss
from lorank.ranking.scorers.features.mlp import seeded_linear
from lorank.ranking.scorers.features.networks import Lesson, register_network
from lorank.ranking.scorers.pairs import lay_out


class Towers(nn.Module):
    """A tower per cluster whose weights are shared ones times its own, and the centres that rows are routed by.

    Args:
        features: The number of columns of a row.
        generator: The source of the first weights and centres.
        clusters: The number of clusters, 1 or more.
        hidden: The widths of the hidden layers.
        temperature: tau, above 0.
        momentum: m, from 0 to below 1.
        rounds: How often a batch is routed before the centres move, 1 or more.
    """

    centres: Tensor

    def __init__(
        self,
        features: int,
        generator: torch.Generator,
        clusters: int,
        hidden: Sequence[int],
        temperature: float,
        momentum: float,
        rounds: int,
    ) -> None:
        super().__init__()
        if min(clusters, rounds, *hidden) < 1 or not temperature > 0 or not 0 <= momentum < 1:
            raise UsageError(
                f"clusters={clusters}, rounds={rounds}, hidden={tuple(hidden)}, temperature={temperature}, "
                f"momentum={momentum}: give 1 or more of the first three, a temperature above 0, a momentum in [0, 1)"
            )
        self.temperature, self.momentum, self.rounds = temperature, momentum, rounds
        widths = (features, *hidden, 1)
        self.shared = nn.ModuleList(seeded_linear(*pair, generator) for pair in pairwise(widths))
        self.own = nn.ParameterList(torch.ones(clusters, *layer.weight.shape) for layer in self._layers())
        nn.init.zeros_(self.own[-1])
        self.biases = nn.ParameterList(torch.zeros(clusters, len(layer.bias)) for layer in self._layers())
        self.register_buffer("centres", torch.randn(clusters, features, generator=generator))

    def _layers(self) -> list[nn.Linear]:
        return [layer for layer in self.shared if isinstance(layer, nn.Linear)]

    def coefficients(self, rows: Tensor, centres: Tensor | None = None) -> Tensor:
        """Return how much of each cluster a row is, float [n, clusters]; a row's coefficients sum to 1."""
        to = self.centres if centres is None else centres
        near = functional.normalize(rows.detach(), dim=1) @ functional.normalize(to, dim=1).T
        return (near / self.temperature).softmax(1)

    @torch.no_grad()
    def route(self, rows: Tensor) -> None:
        """Let the centres move towards the mean rows of their clusters, found from where they are."""
        centres = self.centres
        for _ in range(self.rounds):
            share = self.coefficients(rows, centres)
            mass = share.sum(0).unsqueeze(1)
            centres = torch.where(mass > 1e-6, share.T @ rows / mass.clamp(min=1e-6), centres)
        self.centres.lerp_(centres, 1 - self.momentum)

    def forward(self, rows: Tensor) -> Tensor:
        """Return scores [..., 1] of rows [..., features]; in training the centres move after them."""
        flat = rows.reshape(-1, rows.shape[-1])
        share = self.coefficients(flat)
        hidden = flat.unsqueeze(1).expand(-1, len(self.centres), -1)
        layers = self._layers()
        for layer, own, bias in zip(layers, self.own, self.biases, strict=True):
            hidden = torch.einsum("nki,koi->nko", hidden, layer.weight * own) + layer.bias + bias
            hidden = hidden if layer is layers[-1] else hidden.relu()
        if self.training:
            self.route(flat)
        return (share.unsqueeze(2) * hidden).sum(1).view(*rows.shape[:-1], 1)


def learn_by_rows(lesson: Lesson) -> None:
    """Train towers by the named loss, or by ``softmax``; padding is not routed."""
    loss = lesson.loss or named_loss("softmax")

    def objective(rows: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        return loss(lay_out(lesson.module(rows[mask]).squeeze(-1), mask), labels, mask)

    lesson.descend(objective)


@catalogued(
    "adaptdhm",
    area="recsys",
    title="AdaptDHM: Adaptive Distribution Hierarchical Model for Multi-Domain CTR Prediction",
)
@register_network("adaptdhm", learn=learn_by_rows)
def adaptdhm(
    features: int,
    generator: torch.Generator,
    *,
    clusters: int = 2,
    hidden: Sequence[int] = (64, 32),
    temperature: float = 0.1,
    momentum: float = 0.9,
    rounds: int = 3,
) -> nn.Module:
    """Return the towers.

    Args:
        features: Columns of a row.
        generator: Where weights and centres come from.
        clusters: The distributions that are looked for.
        hidden: Widths of the hidden layers.
        temperature: How softly a row is shared among clusters.
        momentum: How slowly the centres move.
        rounds: How often a batch is routed before they do.
    """
    return Towers(features, generator, clusters, hidden, temperature, momentum, rounds)
