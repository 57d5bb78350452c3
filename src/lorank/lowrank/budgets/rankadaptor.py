r"""RankAdaptor: search the rank vector by a small network that predicts the recovered score.

    f(r_1, ..., r_L) ~ score after fine-tuning with these ranks,   f a perceptron with one hidden layer
    repeat: fit f to all vectors scored so far; move ranks between layers while f rises; score the best that is new

Every vector that is considered sums to the total. ``score`` is handed in: it trains briefly with the ranks that it is
given and returns dev quality. The first vector is the equal one.

Zhou et al., RankAdaptor: Hierarchical Dynamic Low-Rank Adaptation for Structural Pruned LLMs, 2024, arXiv:2406.15734.

*Deviations*: the paper searches a list of ranks a layer with a trained model offline; here ranks move one at a time
between layers, and the model is fitted again after every score.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.lowrank.budgets.core.budget import hand_out
from lorank.lowrank.forms.form import seeded_generator

Score = Callable[[Mapping[str, int]], float]


class PerformanceModel(nn.Module):
    """A perceptron from a rank vector to a score.

    Args:
        layers: length of the vector.
        seed: of the weights' draw.
        hidden: width.
    """

    def __init__(self, layers: int, seed: int, hidden: int = 32) -> None:
        super().__init__()
        generator = seeded_generator(seed, "performance model")
        self.scale, self.centre, self.spread = torch.ones(layers), 0.0, 1.0
        self.first = nn.Parameter(torch.randn(hidden, layers, generator=generator) / layers**0.5)
        self.bias = nn.Parameter(torch.zeros(hidden))
        self.second = nn.Parameter(torch.randn(hidden, generator=generator) / hidden**0.5)

    def forward(self, ranks: Tensor) -> Tensor:
        """Return the predicted score [n] of ``ranks`` [n, layers]."""
        shares = (ranks.float() + 1).log() - self.scale
        return self.centre + self.spread * (torch.tanh(shares @ self.first.t() + self.bias) @ self.second)

    def fit(self, ranks: Tensor, scores: Tensor, steps: int = 150, decay: float = 1e-3) -> None:
        """Fit to ``scores`` by AdamW on the squared error.

        Args:
            ranks: The rank vectors [n, layers] that were scored.
            scores: The score [n] of each vector.
            steps: The number of optimizer steps, 0 or more.
            decay: The weight decay, 0 or more.
        """
        self.scale = (ranks.float() + 1).log().mean(0)
        self.centre, self.spread = float(scores.mean()), float(scores.std(correction=0)) or 1.0
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.02, weight_decay=decay)
        for _ in range(steps):
            optimizer.zero_grad()
            ((self(ranks) - scores) / self.spread).square().mean().backward()
            optimizer.step()


@dataclass
class Search:
    """What a search found: the best ranks, their score, and every vector scored, in order."""

    ranks: dict[str, int]
    score: float
    history: list[tuple[dict[str, int], float]] = field(default_factory=list)


@catalogued(
    "rankadaptor",
    area="adapters.rank",
    title="RankAdaptor: Hierarchical Dynamic Low-Rank Adaptation for Structural Pruned LLMs",
    reach="Python alone: it calls the caller's own function for the quality of each rank vector",
)
def rankadaptor(
    paths: Sequence[str],
    total: int,
    score: Score,
    *,
    trials: int = 20,
    random_trials: int = 8,
    most: int | None = None,
    seed: int = 0,
) -> Search:
    """Return the best rank vector that ``trials`` calls of ``score`` find.

    Args:
        paths: the layers.
        total: sum of ranks of every vector.
        score: (ranks by path) -> quality, higher is better.
        trials: calls of ``score``.
        random_trials: how many of them are random vectors, after the equal one, before the model leads.
        most: the largest rank of a layer; None takes four times the equal one.
        seed: of draws and of the model.

    >>> found = rankadaptor(["a", "b"], 6, lambda ranks: ranks["b"], trials=8, random_trials=3)
    >>> found.ranks, sum(found.history[0][0].values())
    ({'a': 0, 'b': 6}, 6)
    """
    count = len(paths)
    limit = 4 * -(-total // max(1, count)) if most is None else most
    generator = seeded_generator(seed, "rankadaptor")
    tried: dict[tuple[int, ...], float] = {}
    equal = tuple(hand_out(dict.fromkeys(paths, 0.0), dict.fromkeys(paths, limit), total).values())
    candidate: tuple[int, ...] | None = equal
    while candidate is not None and len(tried) < trials:
        tried[candidate] = score(dict(zip(paths, candidate, strict=True)))
        candidate = (
            _random(count, total, limit, generator, tried)
            if len(tried) <= random_trials
            else _led(tried, limit, seed) or _random(count, total, limit, generator, tried)
        )
    best = max(tried, key=lambda ranks: tried[ranks])
    history = [(dict(zip(paths, ranks, strict=True)), value) for ranks, value in tried.items()]
    return Search(dict(zip(paths, best, strict=True)), tried[best], history)


def _random(
    count: int, total: int, limit: int, generator: torch.Generator, tried: Mapping[tuple[int, ...], float]
) -> tuple[int, ...] | None:
    for _ in range(100):
        weights = torch.rand(count, generator=generator).square()
        shares = weights / weights.sum() * total
        names = [str(k) for k in range(count)]
        base = [min(limit, int(share)) for share in shares]
        rest = hand_out(
            {n: float(shares[k]) - base[k] for k, n in enumerate(names)},
            {n: limit - base[k] for k, n in enumerate(names)},
            total - sum(base),
        )
        ranks = tuple(b + rest[n] for b, n in zip(base, names, strict=True))
        if ranks not in tried:
            return ranks
    return None


def _led(tried: Mapping[tuple[int, ...], float], limit: int, seed: int) -> tuple[int, ...] | None:
    """Return the best untried vector on the way uphill on the fitted model, from the best that was scored."""
    ranks = torch.tensor(list(tried), dtype=torch.float32)
    model = PerformanceModel(ranks.shape[1], seed)
    model.fit(ranks, torch.tensor([float(value) for value in tried.values()]))
    here, found = max(tried, key=lambda vector: tried[vector]), None
    for _ in range(sum(here)):
        moves = _neighbours(here, limit)
        if not moves:
            break
        with torch.no_grad():
            values = model(torch.tensor([here, *moves], dtype=torch.float32))
        best = int(values.argmax())
        new = [k for k in (values[1:].argsort(descending=True) + 1).tolist() if moves[k - 1] not in tried]
        if new and (found is None or values[new[0]] > found[0]):
            found = (float(values[new[0]]), moves[new[0] - 1])
        if best == 0:
            break
        here = moves[best - 1]
    return found[1] if found else None


def _neighbours(ranks: tuple[int, ...], limit: int) -> list[tuple[int, ...]]:
    moves = []
    for giving in range(len(ranks)):
        for taking in range(len(ranks)):
            if giving != taking and ranks[giving] > 0 and ranks[taking] < limit:
                moved = list(ranks)
                moved[giving] -= 1
                moved[taking] += 1
                moves.append(tuple(moved))
    return moves
