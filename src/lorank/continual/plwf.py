r"""PLwF: learn from the rankers of all earlier stages on the new data, and step against none of them.

    L_u = mean over lists of KL( softmax s_u || softmax s ),   g_u = grad L_u   of each earlier ranker u
    g' = argmin ||g' - g||  so that  g' . g_u >= 0 for all u,   g = grad L + weight sum_u g_u

s_u [batch, list] are the scores of the ranker after stage u on this stage's own lists: no data of earlier stages is
read. The nearest g' is g + sum_u v_u g_u with v >= 0 of a small quadratic program. The first stage is plain training.

Feng, Guo, Qin et al., Progressive Learning without Forgetting, 2022, arXiv:2211.15215.

*Deviations* [~]: all conflicts are resolved at once, so that no projection undoes another; the paper's task functions
are kept as whole rankers.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lorank.catalogue import catalogued
from lorank.continual.core.method import continual_method
from lorank.continual.core.step_loss import step_loss
from lorank.continual.core.stream import Stream
from lorank.continual.sequential import Sequential
from lorank.errors import UsageError
from lorank.ranking.scorers.ranker import TrainableRanker
from lorank.training.hooks.compressing import list_divergence
from lorank.training.hooks.hook import Access, Hook, Progress
from lorank.training.plan import Plan


def resolve_conflicts(gradient: Tensor, protected: Tensor, rounds: int = 200) -> Tensor:
    """Return the nearest gradient [n] to ``gradient`` that has no negative dot product with rows of ``protected``.

    The dual min over v >= 0 of v K v / 2 + v c, with K = P P^T and c = P g, is solved coordinate by coordinate.

    Args:
        gradient: g [n].
        protected: P [k, n], few rows; rows that are 0 ask for nothing.
        rounds: The sweeps over the coordinates.

    >>> resolve_conflicts(torch.tensor([1.0, -1.0]), torch.tensor([[0.0, 2.0]])).tolist()
    [1.0, 0.0]
    """
    norms = protected.double().norm(dim=1)
    rows = protected.double()[norms > 0] / norms[norms > 0].unsqueeze(1)
    if not len(rows):
        return gradient
    K, c = rows @ rows.t(), rows @ gradient.double()
    v = torch.zeros_like(c)
    for _ in range(rounds):
        for k in range(len(v)):
            v[k] = (v[k] - (K[k] @ v + c[k]) / K[k, k]).clamp_min(0)
    found: Tensor = gradient.double() + rows.t() @ v
    return found.to(gradient.dtype)


class Progressive(Hook):
    """Adds the distillation of earlier rankers to each step's gradient, and takes conflicts out of the sum.

    Args:
        plan: The stage's plan.
        teachers: The rankers after each earlier stage.
        weight: Of the distillation, 0 or more.
    """

    def __init__(self, plan: Plan, teachers: Sequence[TrainableRanker], weight: float) -> None:
        self.plan, self.teachers, self.weight = plan, list(teachers), weight

    def begin(self, access: Access) -> None:
        """Put the teachers where the ranker is."""
        for teacher in self.teachers:
            teacher.module.to(self.plan.ranker.device).eval()

    def after_backward(self, progress: Progress, optimizer: torch.optim.Optimizer) -> None:
        """Put g' in the place of the gradients."""
        own = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        protected = torch.stack([self.slope(teacher, progress.step, own) for teacher in self.teachers])
        gradient = torch.cat([p.grad.flatten() for p in own if p.grad is not None])
        whole = resolve_conflicts(gradient + self.weight * protected.sum(0), protected)
        for parameter, part in zip(own, whole.split([p.numel() for p in own]), strict=True):
            parameter.grad = part.view_as(parameter).clone()

    def slope(self, teacher: TrainableRanker, step: int, parameters: Sequence[Tensor]) -> Tensor:
        """Return grad L_u [n] of one teacher on the lists of a step."""
        taught: list[Tensor] = []

        def keep(scores: Tensor, labels: Tensor, mask: Tensor, *more: object, **extras: object) -> Tensor:
            taught.append(scores.detach())
            return scores.sum()

        def divergence(scores: Tensor, labels: Tensor, mask: Tensor, *more: object, **extras: object) -> Tensor:
            return list_divergence(taught[0], scores, mask)

        with torch.no_grad():
            step_loss(self.plan, step, teacher, keep)
        slopes = torch.autograd.grad(
            step_loss(self.plan, step, self.plan.ranker, divergence), parameters, allow_unused=True
        )
        return torch.cat(
            [
                (torch.zeros_like(p) if slope is None else slope).flatten()
                for p, slope in zip(parameters, slopes, strict=True)
            ]
        )


@continual_method("plwf")
@catalogued("plwf", area="continual", title="Progressive Learning without Forgetting")
class PLwF(Sequential):
    """Sequential training that distils all earlier rankers; ``weight`` is that of the distillation, 0 or more."""

    def __init__(self, weight: float = 1.0) -> None:
        if not (weight >= 0 and math.isfinite(weight)):
            raise UsageError(f"continual.weight is {weight!r}; give a number from 0 up")
        self.weight = weight

    def prepare(self, stream: Stream, number: int, plan: Plan) -> Plan:
        plan = super().prepare(stream, number, plan)
        if number == 1:
            return plan
        teachers = []
        for stage in range(1, number):
            tuned = stream.read(stage)
            tuned.merge()
            teachers.append(tuned.trainable)
        return replace(plan, added=(*plan.added, Progressive(plan, teachers, self.weight)))
