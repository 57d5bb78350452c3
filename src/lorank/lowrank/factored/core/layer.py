r"""The contract of every factored layer: a linear layer y = W x + b whose W [out, in] is never stored whole.

    W = f(tensors)      r (out + in) values for two factors, and what a method has beside them

A factored layer takes the place of an ``nn.Linear``; nothing else of the model knows of it. What it does between steps
(switch vectors, balance its factors) leaves the outputs as they are.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lorank.errors import UsageError, unknown_name
from lorank.lowrank.linalg import top_k_svd, working_dtype


class FactoredLayer(nn.Module, ABC):
    """A linear layer from few numbers; ``bias`` [out] is the replaced layer's own parameter, or None.

    Args:
        layer: The layer that is replaced; its weight is read and not kept.
        rank: r, from 1 to min(out, in).
        start: One of ``starts``.
        generator: What is drawn is drawn from it.
    """

    starts: ClassVar[tuple[str, ...]] = ("random", "svd")
    """Where the tensors may start: "random" as a new layer, "svd" from the replaced weight, "kept" at it exactly."""

    lr: ClassVar[float] = 3e-3
    """The learning rate that suits these layers where they are trained from nothing."""

    def __init__(self, layer: nn.Linear, rank: int, *, start: str, generator: torch.Generator) -> None:
        super().__init__()
        self.in_features, self.out_features, self.rank = layer.in_features, layer.out_features, rank
        self.bias = layer.bias

    @abstractmethod
    def dense(self) -> Tensor:
        """Return W [out, in] as it stands, with its graph."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x W^T + b [..., out] for rows ``x`` [..., in]."""
        return F.linear(x, self.dense(), self.bias)

    @classmethod
    @abstractmethod
    def count(cls, out: int, width: int, rank: int, **options: Any) -> int:
        """Return how many values of W are trained for a weight [out, width], by formula; the bias is not counted."""

    @classmethod
    def flops(cls, out: int, width: int, rank: int, **options: Any) -> int:
        """Return the multiplications and additions of one row's forward pass, by formula."""
        return 2 * rank * (out + width)

    def after_step(self, step: int, steps: int, optimizer: torch.optim.Optimizer, generator: torch.Generator) -> bool:
        """Run after the optimizer's step; return whether tensors were rewritten. The outputs stay as they are.

        Args:
            step: The number of steps that are done.
            steps: The number of steps of the run.
            optimizer: The optimizer of the layer's parameters, whose moments may be reset.
            generator: What is drawn is drawn from it; it is made anew for each step.
        """
        return False

    def sliced(self) -> Mapping[nn.Parameter, int]:
        """Return the parameters whose slices need step counters of their own, with the axis of the slices."""
        return {}

    def optimizer_of(
        self, groups: Any, layers: Mapping[str, Any], rates: Mapping[str, Any]
    ) -> torch.optim.Optimizer | None:
        """Return the optimizer that the method steps all ``layers`` of its kind with, None for AdamW.

        Args:
            groups: The parameters or groups of the whole model.
            layers: All layers of this kind, by path.
            rates: ``lr``, ``betas``, ``eps``, ``weight_decay``, as far as they are stated.
        """
        return None


FACTORED: dict[str, type[FactoredLayer]] = {}
"""Every kind of factored layer under its name."""

Kind = TypeVar("Kind", bound=type[FactoredLayer])


def factored(name: str) -> Callable[[Kind], Kind]:
    """Decorate a FactoredLayer to register it under ``name``."""

    def enter(cls: Kind) -> Kind:
        FACTORED[name] = cls
        return cls

    return enter


def factored_kind(name: str) -> type[FactoredLayer]:
    """Return the class of the factored layers called ``name``.

    >>> factored_kind("sltrian")
    Traceback (most recent call last):
    lorank.errors.UsageError: unknown factored layer 'sltrian'; did you mean 'sltrain'? ...
    """
    if name not in FACTORED:
        raise unknown_name("factored layer", name, FACTORED)
    return FACTORED[name]


def factored_options(name: str) -> dict[str, Any]:
    """Return the options of the factored layers called ``name`` with their defaults.

    >>> factored_options("sltrain")
    {'alpha': None, 'delta': 0.03}
    """
    parameters = inspect.signature(factored_kind(name)).parameters.values()
    own = [each for each in parameters if each.kind is each.KEYWORD_ONLY]
    return {each.name: each.default for each in own if each.name not in ("start", "generator")}


class Pair(FactoredLayer):
    """W = B A with trained A [r, in] and B [out, r], the part that all kinds have.

    From "svd" B = U_r sqrt(S_r) and A = sqrt(S_r) V_r^T of the replaced weight; from "random" A ~ N(0, 1 / in) and B
    such that an entry of B A varies as one of the replaced weight.
    """

    def __init__(self, layer: nn.Linear, rank: int, *, start: str, generator: torch.Generator) -> None:
        super().__init__(layer, rank, start=start, generator=generator)
        weight = layer.weight.detach()
        a, b = balanced_svd(weight, rank) if start == "svd" else random_pair(weight, rank, generator)
        self.A, self.B = nn.Parameter(a.to(weight).contiguous()), nn.Parameter(b.to(weight).contiguous())

    def dense(self) -> Tensor:
        """Return B A."""
        return self.B @ self.A

    def forward(self, x: Tensor) -> Tensor:
        """Return B (A x) + b in two thin products."""
        return F.linear(F.linear(x, self.A), self.B, self.bias)

    @classmethod
    def count(cls, out: int, width: int, rank: int, **options: Any) -> int:
        """Return r (out + in)."""
        return rank * (out + width)


def balanced_svd(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return A [r, in] and B [out, r] of the best B A of that rank, with equal norms.

    >>> a, b = balanced_svd(torch.tensor([[4.0, 0.0], [0.0, 1.0]]), 1); (b @ a).round().tolist()
    [[4.0, 0.0], [0.0, 0.0]]
    """
    U, s, Vh = top_k_svd(weight, rank)
    return s.sqrt().unsqueeze(1) * Vh, U * s.sqrt()


def random_pair(weight: Tensor, rank: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return random A [r, in] and B [out, r] whose product varies entry by entry as ``weight`` does."""
    out, width = weight.shape
    spread = float(weight.to(working_dtype(weight)).square().mean().sqrt())
    a = torch.randn(rank, width, generator=generator) / width**0.5
    b = torch.randn(out, rank, generator=generator) * spread * (width / rank) ** 0.5
    return a.to(weight.device), b.to(weight.device)


def reset_moments(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> None:
    """Set all that ``optimizer`` remembers of ``parameter`` to 0, its count of steps too."""
    for value in optimizer.state.get(parameter, {}).values():
        if isinstance(value, Tensor):
            value.zero_()


def break_even(out: int, width: int) -> float:
    """Return the rank at which two factors hold as many values as the weight: out in / (out + in).

    >>> break_even(384, 384)
    192.0
    """
    return out * width / (out + width)


def rank_of(path: str, out: int, width: int, rank: float) -> int:
    """Return the rank of a layer from a number of ranks (an int) or a share of the break-even rank (below 1).

    Raises:
        UsageError: Where it is below one rank, or above min(out, in).

    >>> rank_of("q", 384, 384, 0.5), rank_of("q", 384, 384, 16)
    (96, 16)
    """
    if isinstance(rank, float) and not rank.is_integer() and not 0 < rank < 1:
        raise UsageError(f"rank {rank:g}: give a whole number of ranks, or a share of the break-even rank below 1")
    found = int(rank * break_even(out, width)) if 0 < rank < 1 else int(rank)
    if found < 1:
        least = 1 / break_even(out, width)
        raise UsageError(
            f"layer {path} [{out}, {width}]: rank {rank:g} leaves less than one rank; give a whole number from 1 up, "
            f"or a share of {least:.4f} and more"
        )
    if found > min(out, width):
        raise UsageError(
            f"layer {path} [{out}, {width}]: rank {found} is above min(out, in) = {min(out, width)}, which its weight "
            f"has at most; give a lower one, or exclude the layer"
        )
    return found
