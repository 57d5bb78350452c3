r"""Gradient-boosted network: one hidden layer, grown J units at a time on what is still wrong.

    s_t(x) = s_{t-1}(x) + \eta_t ( w_t \cdot \phi(A_t x + b_t) + c_t )

Stage t fits its J units to the pseudo-residuals -g_i / h_i of the loss at s_{t-1}, weighted by the curvature h_i (least
squares by Adam, the last layer's weights then exactly by ridge regression), and the step \eta_t is halved until the
training loss does not rise; a stage that helps at no step is left at 0. All stages together are one hidden layer of T J
units, so the model is a perceptron like any other: adapters attach to it, and its first J t units are the model of
the first t stages, which may serve where time is short (:func:`prefix`).

Paper: S. Badirli et al., Gradient Boosting Neural Networks: GrowNet, 2020 (second-order residuals, stages); Sequential
Training of Neural Networks with Gradient Boosting (units joined in one hidden layer).

*Deviations*: stages see the rows alone, not the features of the stage before, or they could not be joined in one layer;
no corrective step over all stages.
"""

import numpy as np
import torch
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.ranking.losses import loss as named_loss
from lorank.ranking.losses.core.derivatives import derivatives
from lorank.ranking.losses.core.packed import pack_loss
from lorank.ranking.losses.core.registry import Loss
from lorank.ranking.scorers.features.descent import informative_lists
from lorank.ranking.scorers.features.mlp import seeded_linear, zero_linear
from lorank.ranking.scorers.features.networks import Lesson, register_network
from lorank.ranking.scorers.features.ranker import FeatureRanker


class BoostedNetwork(nn.Sequential):
    """Linear, tanh, Linear; knows how many units a stage has, and how many stages were grown.

    Args:
        features: The number of columns of a row.
        units: The number of hidden units of one stage.
        stages: The number of stages.
        inner_steps: The number of Adam's steps that fit the units of one stage.
        shrinkage: The first step size of a stage, which is halved while it does not help.
        l2: The strength of the ridge regression of the last layer.
        generator: The source of the first weights.
    """

    def __init__(
        self,
        features: int,
        units: int,
        stages: int,
        inner_steps: int,
        shrinkage: float,
        l2: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__(
            seeded_linear(features, units * stages, generator, 1.0), nn.Tanh(), zero_linear(units * stages)
        )
        self.units, self.stages, self.inner_steps = units, stages, inner_steps
        self.shrinkage, self.l2 = shrinkage, l2

    def stage(self, number: int) -> slice:
        """The units of a stage."""
        return slice(number * self.units, (number + 1) * self.units)

    def switch_off_from(self, stage: int) -> None:
        """Take the last stages out, as if they had never been grown; their biases stay in the sum of stages."""
        with torch.no_grad():
            self[2].weight[:, stage * self.units :] = 0


def grow(lesson: Lesson) -> None:
    """Grow the stages of a :class:`BoostedNetwork`; keeps the number of stages that serves the held-out lists best."""
    if lesson.within is not None:
        raise UsageError("a boosted network sees each document by itself; choose a transform without 'query'")
    function, module = lesson.loss or named_loss("softmax"), lesson.module
    assert isinstance(module, BoostedNetwork)
    lists = lesson.lists.take(informative_lists(lesson.lists))
    at = np.concatenate(
        [np.zeros(0, np.int64), *(np.arange(*lesson.lists.offsets[i : i + 2]) for i in informative_lists(lesson.lists))]
    )
    rows, labels, offsets = (
        lesson.inputs[at],
        torch.from_numpy(np.asarray(lists.labels, np.float32)),
        torch.from_numpy(lists.offsets),
    )
    best, since, kept = -np.inf, 0, module.stages
    for number in range(module.stages):
        grow_stage(module, number, rows, labels, offsets, function, lesson.seed)
        if lesson.on_progress is not None:
            lesson.on_progress(number + 1, module.stages)
        if lesson.dev is None:
            continue
        value = lesson.dev()
        best, kept, since = (value, number + 1, 0) if value > best else (best, kept, since + 1)
        if since >= lesson.settings.patience:
            break
    module.switch_off_from(kept)


def grow_stage(
    module: BoostedNetwork, number: int, rows: Tensor, labels: Tensor, offsets: Tensor, function: Loss, seed: int
) -> float:
    """Fit one stage to the residuals of those before, and return the training loss after it.

    Args:
        module: The network, with the earlier stages grown.
        number: The number of the stage, from 0.
        rows: The transformed rows [documents, features] of packed lists.
        labels: The grades [documents].
        offsets: The bounds of the lists among the documents, [lists + 1].
        function: The loss that the stages lower.
        seed: The seed of the stage's first weights.
    """
    with torch.no_grad():
        before = module(rows).squeeze(1)
    gradient, curvature = derivatives(function, before, labels, offsets)
    target, weight = -gradient / curvature, curvature / curvature.mean()
    limit = 3 * (weight * target.square()).mean().sqrt() / weight.sqrt()  # a document must not rule a stage
    target = target.clamp(-limit, limit)
    inner, outer = _fit_units(module, number, rows, target, weight, seed)
    with torch.no_grad():
        own = module.stage(number)
        module[0].weight[own], module[0].bias[own] = inner.weight, inner.bias
        change = torch.tanh(inner(rows)) @ outer
        measure = pack_loss(function)
        # equal scores are ranked at their worst, where losses weighted by ranks have no value to compare with
        value = start = float(measure(before, labels, offsets)) if number else float("inf")
        step = module.shrinkage
        for _ in range(12):
            value = float(measure(before + step * change, labels, offsets))
            if value <= start:
                module[2].weight[0, own] = step * outer
                return value
            step /= 2
    return start


def _fit_units(
    module: BoostedNetwork, number: int, rows: Tensor, target: Tensor, weight: Tensor, seed: int
) -> tuple[nn.Linear, Tensor]:
    """Return a stage's hidden layer, trained by Adam on weighted squares, and its last weights by ridge."""
    generator = torch.Generator().manual_seed(seed * 100_003 + number)
    inner = seeded_linear(rows.shape[1], module.units, generator, 1.0)
    last = seeded_linear(module.units, 1, generator, 1.0)
    optimizer = torch.optim.Adam([*inner.parameters(), *last.parameters()], lr=0.02)
    for _ in range(module.inner_steps):
        chosen = torch.randint(len(rows), (min(len(rows), 1024),), generator=generator)
        optimizer.zero_grad()
        missed = last(torch.tanh(inner(rows[chosen]))).squeeze(1) - target[chosen]
        (weight[chosen] * missed.square()).mean().backward()
        optimizer.step()
    with torch.no_grad():
        hidden = torch.tanh(inner(rows)).double()
        weighted = hidden * weight.double().unsqueeze(1)
        ridge = weighted.T @ hidden + module.l2 * len(rows) * torch.eye(module.units, dtype=torch.float64)
        outer = torch.linalg.solve(ridge, weighted.T @ target.double())
    return inner, outer.float()


def prefix(ranker: FeatureRanker, stages: int) -> FeatureRanker:
    """Return a ranker of the first ``stages`` stages only, with so many times fewer hidden units.

    Raises UsageError where the ranker is no boosted network or has fewer stages.
    """
    if ranker.model != "boosted":
        raise UsageError(f"only a boosted network has stages; this ranker is {ranker.model!r}")
    whole = ranker.module
    if not 1 <= stages <= whole.stages:  # type: ignore[operator]
        raise UsageError(f"stages must be from 1 to {whole.stages}; got {stages}")
    short = FeatureRanker(**{**ranker.options(), "stages": stages})
    units = slice(0, stages * whole.units)  # type: ignore[operator]
    with torch.no_grad():
        short.module[0].weight.copy_(whole[0].weight[units])
        short.module[0].bias.copy_(whole[0].bias[units])
        short.module[2].weight.copy_(whole[2].weight[:, units])
        short.module[2].bias.copy_(whole[2].bias)
    return short


@catalogued("gradient-boosted-nn", area="models", title="Sequential Training of Neural Networks with Gradient Boosting")
@register_network("boosted", learn=grow, reads=("patience",))
def boosted(
    features: int,
    generator: torch.Generator,
    *,
    units: int = 8,
    stages: int = 40,
    inner_steps: int = 60,
    shrinkage: float = 0.3,
    l2: float = 1e-3,
) -> nn.Module:
    """Return the hidden layer of all stages, whose last weights are 0 until a stage is grown.

    Args:
        features: Columns of a row.
        generator: Where weights come from.
        units: J, hidden units of a stage.
        stages: T, at most; fewer where held-out lists say so.
        inner_steps: Steps of Adam in which a stage's units are trained.
        shrinkage: The first step tried, above 0.
        l2: Penalty on a stage's last weights, per training row.
    """
    if min(units, stages) < 1 or inner_steps < 0 or shrinkage <= 0 or l2 < 0:
        raise UsageError(
            f"units and stages must be 1 or more, inner_steps and l2 0 or more, shrinkage above 0; got "
            f"{units}, {stages}, {inner_steps}, {l2}, {shrinkage}"
        )
    return BoostedNetwork(features, units, stages, inner_steps, shrinkage, l2, generator)
