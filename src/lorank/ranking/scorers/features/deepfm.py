r"""DeepFM: embedding tables of categories, every pair of features, and a network, in one sum.

    e_i = E_i[x_i] for a column of categories,    e_i = x_i v_i for a column of numbers
    s(x) = \sum_i w_i(x_i) + g \sum_{i<j} e_i^T e_j + MLP(e_1, ..., e_n)

where w_i is a table of numbers for categories and a weight for numbers. The sum over pairs is that of a factorization
machine, 1/2 (|\sum_i e_i|^2 - \sum_i |e_i|^2), so that it costs as much as the columns. A category is its number modulo
``buckets``. With ``rank`` r a table [buckets, dim] is the product of [buckets, r] and [r, dim] (`FactoredEmbedding`).

Papers: H. Guo et al. 2017, *DeepFM: A Factorization-Machine based Neural Network for CTR Prediction*, arXiv:1703.04247;
S. Rendle 2010, *Factorization Machines*, ICDM.

*Deviations*: g starts at 0 and is learned, and so does the last layer, so that every score starts at 0; any loss of
lists trains it, the paper's is ``bce``. All tables have as many rows.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from lorank.errors import UsageError
from lorank.layers import FactoredEmbedding
from lorank.ranking.scorers.features.mlp import check_dropout, seeded_linear, zero_linear
from lorank.ranking.scorers.features.networks import register_network


class DeepFactorizationMachine(nn.Module):
    """The sum of weights, pairs and a network.

    Args:
        features: The number of columns of a row.
        generator: The source of the first weights.
        columns: The columns of categories, from 1.
        dim: The width of a vector.
        buckets: The rows of a table.
        rank: The rank of a table, 0 for a whole one.
        hidden: The widths of the hidden layers.
        dropout: The share of hidden units that a training step leaves out.
    """

    def __init__(
        self,
        features: int,
        generator: torch.Generator,
        columns: Sequence[int],
        dim: int,
        buckets: int,
        rank: int,
        hidden: Sequence[int],
        dropout: float,
    ) -> None:
        super().__init__()
        self.categories = [column - 1 for column in columns if column <= features]
        self.numbers = [place for place in range(features) if place not in self.categories]
        self.buckets = buckets
        self.tables = nn.ModuleList(make_table(buckets, dim, rank, generator) for _ in self.categories)
        self.weights = nn.ParameterList(torch.zeros(buckets) for _ in self.categories)
        self.vectors = nn.Parameter(torch.randn(len(self.numbers), dim, generator=generator) * dim**-0.5)
        self.linear = nn.Parameter(torch.zeros(len(self.numbers)))
        self.pairs = nn.Parameter(torch.zeros(()))
        widths = (features * dim, *hidden)
        layers: list[nn.Module] = []
        for inner, outer in pairwise(widths):
            layers += [seeded_linear(inner, outer, generator), nn.ReLU(), nn.Dropout(dropout)]
        self.network = nn.Sequential(*layers, zero_linear(widths[-1]))

    def forward(self, rows: Tensor) -> Tensor:
        """Return scores [..., 1] of rows [..., features]."""
        numbers = rows[..., self.numbers]
        ids = rows[..., self.categories].round().long().remainder(self.buckets)
        parts = [table(ids[..., i]).unsqueeze(-2) for i, table in enumerate(self.tables)]
        each = torch.cat([*parts, numbers.unsqueeze(-1) * self.vectors], -2)
        score = numbers @ self.linear
        for i, weights in enumerate(self.weights):
            score = score + weights[ids[..., i]]
        score = score + self.pairs * sum_of_pairs(each)
        return score.unsqueeze(-1) + torch.as_tensor(self.network(each.flatten(-2)))


def sum_of_pairs(each: Tensor) -> Tensor:
    """Return the sum of e_i^T e_j over all pairs i < j, [...], of vectors [..., n, dim].

    >>> sum_of_pairs(torch.tensor([[1.0, 0.0], [2.0, 1.0], [0.0, 3.0]])).item()
    5.0
    """
    return 0.5 * (each.sum(-2).square().sum(-1) - each.square().sum((-2, -1)))


def make_table(rows: int, dim: int, rank: int, generator: torch.Generator) -> nn.Module:
    """Return an embedding table [rows, dim] whose rows have a length of about 1: of a rank, or whole where it is 0."""
    if rank:
        first = torch.randn(rows, rank, generator=generator) * rank**-0.5
        second = torch.randn(dim, rank, generator=generator) * dim**-0.5
        return FactoredEmbedding.of(first, second, torch.zeros(dim))
    table: nn.Embedding = nn.utils.skip_init(nn.Embedding, rows, dim)
    with torch.no_grad():
        table.weight.normal_(0.0, dim**-0.5, generator=generator)
    return table


@register_network("deepfm", categories="categories")
def deepfm(
    features: int,
    generator: torch.Generator,
    *,
    categories: Sequence[int] = (),
    dim: int = 16,
    buckets: int = 10_000,
    rank: int = 0,
    hidden: Sequence[int] = (64, 32),
    dropout: float = 0.0,
) -> nn.Module:
    """Return the model.

    Args:
        features: Columns of a row.
        generator: Where weights come from.
        categories: The columns, from 1 as LETOR files number them, whose whole numbers are categories.
        dim: The width of a vector.
        buckets: The rows of a table; a category is its number modulo this.
        rank: The rank of a table, below dim; 0 keeps it whole.
        hidden: Widths of the hidden layers.
        dropout: Share of hidden units that a training step leaves out.
    """
    check_dropout(dropout)
    if min(dim, buckets, *hidden, *categories) < 1 or not 0 <= rank <= min(dim, buckets):
        raise UsageError(
            f"categories={tuple(categories)}, dim={dim}, buckets={buckets}, rank={rank}, hidden={tuple(hidden)}: give "
            "columns from 1, sizes of 1 or more, and a rank from 0 to dim"
        )
    if len(set(categories)) < len(categories):
        raise UsageError(f"categories={tuple(categories)}: a column stands there twice")
    return DeepFactorizationMachine(features, generator, categories, dim, buckets, rank, hidden, dropout)
