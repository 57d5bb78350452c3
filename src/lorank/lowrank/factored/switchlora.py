r"""SwitchLoRA: a LoRA whose vectors are exchanged, a few a step, for others, so that the update reaches every rank.

    y = W x + s B (A x) + b,    s = alpha / r,    W [out, in] frozen,    pools of min(in, out) rows of A, columns of B

Row a_i of A changes places with a candidate a':   W <- W + s b_i (a_i - a'),   a_i <- a'
(and a column of B likewise), which leaves the outputs as they are. What Adam remembers of the counterpart b_i belonged
to the old vector: its moments and its count of steps are set to 0, and b_i stands still for ``pause`` steps while a'
learns. With interval I(t) = interval / 0.3^(t / T), T = ``ratio`` of the run, r / I(t) vectors of each factor are
switched in a step (rounded at random), in turn; A and B are r / 2 apart.

Zhou, Wang, Xu, SwitchLoRA: Switched Low-Rank Adaptation Can Learn Full-Rank Information, 2024, arXiv:2406.06564.

*Deviations*: none in the rule. The pools are buffers of the layer; the published code may keep them on the CPU.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.lowrank.factored.core.layer import FactoredLayer, factored
from lorank.lowrank.factored.core.row_adamw import RowAdamW
from lorank.lowrank.linalg import working_dtype

GAIN = (1 / 3) ** 0.5
"""The gain of a leaky ReLU of slope sqrt 5."""


@factored("switchlora")
@catalogued(
    "switchlora",
    area="pretrain.lowrank",
    title="SwitchLoRA: Switched Low-Rank Adaptation Can Learn Full-Rank Information",
)
class SwitchLoRA(FactoredLayer):
    """A LoRA over a weight that takes up what is switched out.

    Args:
        layer: The layer that is replaced; the new one begins with its outputs.
        rank: The rank of B A.
        start: "kept": W - s B A takes the place of the weight.
        generator: It draws factors and pools.
        alpha: B A is scaled by alpha / r.
        interval: The steps in which every vector is switched once, at the start of a run; above twice ``pause``.
        ratio: The share of the run after which switching is 0.3 times as frequent, above 0.
        pause: The steps for which the counterpart of a new vector stands still.
    """

    starts = ("kept",)
    lr = 1e-2

    def __init__(
        self,
        layer: nn.Linear,
        rank: int,
        *,
        start: str,
        generator: torch.Generator,
        alpha: float = 1.0,
        interval: float = 40.0,
        ratio: float = 0.1,
        pause: int = 5,
    ) -> None:
        super().__init__(layer, rank, start=start, generator=generator)
        if pause < 0 or interval < 2 * pause or interval < 1:
            raise UsageError(
                f"interval={interval:g}, pause={pause}: a vector is switched in no fewer than 2 * pause steps"
            )
        if not ratio > 0:
            raise UsageError(f"ratio={ratio:g}: give a share of the run above 0")
        self.scaling, self.interval, self.ratio, self.pause = alpha / rank, interval, ratio, pause
        weight = layer.weight.detach()
        out, width = weight.shape
        size, device = min(out, width), weight.device
        bound_a = (3 * GAIN) ** 0.5 * (out**0.5 * rank / width**1.5) ** 0.25
        bound_b = (3 * GAIN) ** 0.5 * (rank / (out * width) ** 0.5) ** 0.25

        def draw(rows: int, columns: int, bound: float) -> Tensor:
            return ((2 * torch.rand(rows, columns, generator=generator) - 1) * bound).to(weight)

        self.A, self.B = nn.Parameter(draw(rank, width, bound_a)), nn.Parameter(draw(out, rank, bound_b))
        self.weight: Tensor
        self.pool_a: Tensor
        self.pool_b: Tensor
        self.turns: Tensor
        wide = working_dtype(weight)
        product = self.scaling * self.B.detach().to(wide) @ self.A.detach().to(wide)
        self.register_buffer("weight", (weight.to(wide) - product).to(weight))
        self.register_buffer("pool_a", draw(size, width, bound_a))
        self.register_buffer("pool_b", draw(out, size, bound_b))
        self.register_buffer("turns", torch.tensor([0, 0, rank // 2, 0], device=device))

    def dense(self) -> Tensor:
        """Return W + s B A."""
        return self.weight + self.scaling * (self.B @ self.A)

    def forward(self, x: Tensor) -> Tensor:
        """Return W x + s B (A x) + b."""
        thin = F.linear(F.linear(x, self.A), self.B)
        return F.linear(x, self.weight, self.bias) + self.scaling * thin

    @classmethod
    def count(cls, out: int, width: int, rank: int, **options: Any) -> int:
        """Return r (out + in); W is stored too and not trained."""
        return rank * (out + width)

    @classmethod
    def flops(cls, out: int, width: int, rank: int, **options: Any) -> int:
        """Return 2 out in + 2 r (out + in)."""
        return 2 * out * width + 2 * rank * (out + width)

    def sliced(self) -> Mapping[nn.Parameter, int]:
        """Return A by rows and B by columns."""
        return {self.A: 0, self.B: 1}

    def switches(self, step: int, steps: int, generator: torch.Generator) -> int:
        """Return how many vectors of each factor are switched after ``step`` of ``steps`` steps."""
        expected = self.rank / self.interval * 0.3 ** (step / (self.ratio * max(steps, 1)))
        return int(expected) + int(torch.rand((), generator=generator) < expected % 1)

    def after_step(self, step: int, steps: int, optimizer: torch.optim.Optimizer, generator: torch.Generator) -> bool:
        """Switch vectors of A and of B where it is their turn."""
        if not isinstance(optimizer, RowAdamW):
            raise UsageError(
                "switchlora resets single rows of the optimizer's state; step with RowAdamW, as "
                "`Factored.optimizer` returns it"
            )
        changed = False
        for turn, factor in ((0, "A"), (2, "B")):
            for _ in range(self.switches(step, steps, generator)):
                self._switch(turn, factor, optimizer)
                changed = True
        return changed

    @torch.no_grad()
    def _switch(self, turn: int, factor: str, optimizer: RowAdamW) -> None:
        index, candidate = int(self.turns[turn]) % self.rank, int(self.turns[turn + 1])
        wide = working_dtype(self.weight)
        row, column = self.A[index].to(wide), self.B[:, index].to(wide)
        if factor == "A":
            new = self.pool_a[candidate].clone()
            delta = torch.outer(column, row - new.to(wide))
            self.pool_a[candidate].copy_(self.A[index])
            self.A[index].copy_(new)
            optimizer.begin_slice(self.B, index, self.pause)
        else:
            new = self.pool_b[:, candidate].clone()
            delta = torch.outer(column - new.to(wide), row)
            self.pool_b[:, candidate].copy_(self.B[:, index])
            self.B[:, index].copy_(new)
            optimizer.begin_slice(self.A, index, self.pause)
        self.weight.copy_(self.weight.to(wide) + self.scaling * delta)
        self.turns[turn] = (index + 1) % self.rank
        self.turns[turn + 1] = (candidate + 1) % self.pool_a.shape[0]
