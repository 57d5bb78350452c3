r"""A small predictor of where the update of a layer goes next, learned from where all layers went before.

    \hat{sigma} = a \sigma_g + b k \sigma_l + f(\sigma_g, k \sigma_l)
    \hat{u}     = normalised( c u_g + d u_l + F(u_g, u_l) ),     \hat{v} likewise

g marks the difference since the start, l that since the checkpoint before, k how many checkpoints lie ahead. a, b, c
and d are those of least squares; f and F are networks of two layers that learn what is left, by the mean absolute
error. There is one F per length of vector, which u and v of all layers share, and one f. Each layer's sigma is in units
of its largest.

Z. Chen et al., Low-rank Optimization Trajectories Modeling for LLM RLVR Acceleration, 2026, arXiv:2604.11446.

*Deviations*: the paper's networks have a bottleneck of 256, no linear part, and read raw sigma; they take 1,000 epochs
at a rate of 2e-5. Over the few checkpoints of a small model such a network fits what it saw and fails one step beyond.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lorank.lowrank.rules.trajectory import Differences, RankOne


class Branch(nn.Module):
    """A weighted sum of the two inputs, and a network of both; 0 before it is fitted.

    Args:
        size: The length of each input, and of what is returned.
        width: The units of the network.
        generator: The source of its first weights.
    """

    mix: Tensor

    def __init__(self, size: int, width: int, generator: torch.Generator) -> None:
        super().__init__()
        bound = (2 * size) ** -0.5
        self.inner = nn.Parameter(torch.empty(width, 2 * size).uniform_(-bound, bound, generator=generator))
        self.offset = nn.Parameter(torch.empty(width).uniform_(-bound, bound, generator=generator))
        self.outer = nn.Parameter(torch.zeros(size, width))
        self.register_buffer("mix", torch.zeros(2))

    def forward(self, whole: Tensor, last: Tensor) -> Tensor:
        """Return what is predicted [n, size].

        Args:
            whole: Since the start, [n, size].
            last: Since the checkpoint before, [n, size].
        """
        seen = torch.relu(torch.cat([whole, last], 1) @ self.inner.t() + self.offset)
        return self.mix[0] * whole + self.mix[1] * last + seen @ self.outer.t()

    def fit(self, whole: Tensor, last: Tensor, later: Tensor, steps: int, rate: float) -> "Branch":
        """Learn ``later`` [n, size]: the weights by least squares, the network by AdamW on what is left."""
        self.to(whole.device)
        self.mix.copy_(least_squares(whole, last, later))
        optimizer = torch.optim.AdamW(self.parameters(), lr=rate, weight_decay=0.0)
        with torch.enable_grad():
            for step in range(steps):
                optimizer.param_groups[0]["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / steps))
                optimizer.zero_grad()
                (self(whole, last) - later).abs().mean().backward()
                optimizer.step()
        return self


def least_squares(one: Tensor, two: Tensor, goal: Tensor) -> Tensor:
    """Return the weights [2] with which ``one`` and ``two`` sum to ``goal`` most nearly, 0 where they are 0.

    >>> one, two = torch.tensor([[1.0], [0.0]]), torch.tensor([[0.0], [2.0]])
    >>> least_squares(one, two, torch.tensor([[3.0], [1.0]])).round(decimals=4)
    tensor([3.0000, 0.5000])
    """
    columns = torch.stack([one.flatten(), two.flatten()], 1).double()
    products = columns.t() @ columns
    damped = products + 1e-9 * (products.trace() + 1e-9) * torch.eye(2, dtype=products.dtype, device=products.device)
    weights: Tensor = torch.linalg.solve(damped, columns.t() @ goal.flatten().double())
    return weights.to(goal.dtype)


class Predictor:
    """The networks of one run.

    Args:
        ahead: k.
        width: The units of each network, 1 or more.
        generator: The source of their first weights, on the CPU.
    """

    def __init__(self, ahead: int, width: int, generator: torch.Generator) -> None:
        self.ahead, self.width, self.generator = ahead, width, generator
        self.sizes = Branch(1, width, generator)
        self.directions: dict[int, Branch] = {}

    def fit(self, layers: Sequence[Differences], *, steps: int, rate: float = 5e-3) -> "Predictor":
        """Learn what came later at the checkpoints of all layers, and return the predictor.

        Args:
            layers: The differences of each layer.
            steps: The steps of AdamW over all examples; 0 leaves the networks at 0.
            rate: Their first rate, which falls to 0 as a cosine.
        """
        shown = [_until(each, len(each.later.sigma)) for each in layers]
        self.sizes.fit(*self._sizes_of(shown), steps, rate)
        lengths = sorted({own.shape[1] for each in shown for own in (each.whole.u, each.whole.v)})
        for length in lengths:
            rows = [tuple(part[side] for part in each) for each in shown for side in (1, 2)]
            whole, last, later = (
                torch.cat([row[part] for row in rows if row[part].shape[1] == length]).float() for part in range(3)
            )
            branch = Branch(length, self.width, self.generator)
            self.directions[length] = branch.fit(whole, last, later, steps, rate)
        return self

    def predict(self, layer: Differences) -> RankOne:
        """Return the rank-1 matrix that comes after the last checkpoint of a layer.

        Args:
            layer: Its differences, of which the last checkpoint is read and the largest sigma.
        """
        largest = _largest(layer)
        with torch.no_grad():
            whole, last = (series.sigma[-1:].float().unsqueeze(1) / largest for series in (layer.whole, layer.last))
            sigma = self.sizes(whole, self.ahead * last)[0, 0] * largest
            u, v = (self._direction(layer.whole[side][-1:], layer.last[side][-1:]) for side in (1, 2))
        return RankOne(sigma, u, v)

    def _direction(self, whole: Tensor, last: Tensor) -> Tensor:
        found = self.directions[whole.shape[1]](whole.float(), last.float())[0]
        return nn.functional.normalize(found, dim=0, eps=torch.finfo(found.dtype).tiny)

    def _sizes_of(self, layers: Sequence[Differences]) -> tuple[Tensor, Tensor, Tensor]:
        columns = []
        for part, factor in ((0, 1), (1, self.ahead), (2, 1)):
            columns.append(torch.cat([factor * each[part].sigma.float() / _largest(each) for each in layers]))
        whole, last, later = (column.unsqueeze(1) for column in columns)
        return whole, last, later


def _largest(layer: Differences) -> Tensor:
    """Return the largest sigma since the start, by which those of a layer are divided; 1 for a layer that rested."""
    largest = layer.whole.sigma.max().float()
    return torch.where(largest > 0, largest, torch.ones_like(largest))


def _until(layer: Differences, count: int) -> Differences:
    """Return the checkpoints whose later difference is known."""
    whole, last = (RankOne(*(part[:count] for part in series)) for series in (layer.whole, layer.last))
    return Differences(whole, last, layer.later)
