r"""PAR: a related collection goes on with a former adapter and is held to it; an unrelated one gets its own.

    rho(t, e) = mean over queries x of t of min_p ||x - p|| over the prototypes p of e, over that of e's own held-out x
    e* = argmin_e rho;   rho(t, e*) <= threshold: train e* with penalty lambda ||theta - theta_e*||^2;   else a new one

Prototypes are the centres of the training queries' features (`lorank.continual.core.features`). The test set of a
stage is ranked by the stage's expert, that of a stage to come by the expert nearest to its queries. Parameters grow by
one adapter per unrelated collection.

Wang, Wang, Chen, Zhang et al., Task Difficulty Aware Parameter Allocation & Regularization for Lifelong Learning
(PAR), 2023, arXiv:2304.05288.

*Deviations*: an expert is an adapter of the recipe's form and rank; the paper's small search of architectures is left
out. The distance is relative to the task's own, so that one threshold serves features of any scale.
"""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorank.catalogue import catalogued
from lorank.continual.core.experts import (
    check_adapter,
    count_experts,
    features_asked,
    features_of,
    latest_stage,
    read_experts,
    write_expert,
)
from lorank.continual.core.features import Prototypes
from lorank.continual.core.method import continual_method, go_on_from
from lorank.continual.core.stream import Stream
from lorank.continual.sequential import Sequential
from lorank.errors import UsageError
from lorank.progress import ProgressCallback
from lorank.ranking.scorers.ranker import FittedRanker
from lorank.ranking.types import Run
from lorank.training.fitting import Fitted
from lorank.training.hooks.hook import Access, Hook, Progress
from lorank.training.open_recipe import open_recipe_base
from lorank.training.plan import Plan
from lorank.training.recipe import RecipeFile


class HoldTo(Hook):
    """Adds lambda ||theta - theta_0||^2 to the loss, theta_0 as it is when this is made.

    Args:
        parameters: theta.
        strength: lambda, 0 or more.
    """

    def __init__(self, parameters: list[Tensor], strength: float) -> None:
        self.parameters, self.strength = parameters, strength
        self.began = [parameter.detach().clone() for parameter in parameters]

    def begin(self, access: Access) -> None:
        """Move theta_0 to where theta is."""
        self.began = [own.to(p.device) for own, p in zip(self.began, self.parameters, strict=True)]

    def penalty(self, progress: Progress) -> Tensor | None:
        """Return lambda ||theta - theta_0||^2."""
        terms = [(p - own).square().sum() for p, own in zip(self.parameters, self.began, strict=True)]
        return self.strength * torch.stack(terms).sum()


@continual_method("par-lifelong")
@catalogued(
    "par-lifelong",
    area="continual",
    title="Task Difficulty Aware Parameter Allocation & Regularization for Lifelong Learning",
)
class ParLifelong(Sequential):
    """Reuse or a new adapter, by the distance to prototypes.

    Args:
        threshold: The relative distance, 1 or more, up to which a collection is related.
        prototypes: The number of centres per stage, 1 or more.
        strength: lambda, 0 or more, which holds a reused adapter to what it was.
    """

    def __init__(self, threshold: float = 1.15, prototypes: int = 8, strength: float = 1e-3) -> None:
        if not (threshold >= 1 and math.isfinite(threshold)):
            raise UsageError(f"continual.threshold is {threshold!r}; give a relative distance from 1 up")
        if prototypes < 1:
            raise UsageError(f"continual.prototypes is {prototypes!r}; give a number from 1 up")
        if not (strength >= 0 and math.isfinite(strength)):
            raise UsageError(f"continual.strength is {strength!r}; give a number from 0 up")
        self.threshold, self.prototypes, self.strength = threshold, prototypes, strength
        self._decided: dict[int, tuple[int, bool, dict[str, Any]]] = {}

    def settle(self, recipe: RecipeFile) -> RecipeFile:
        check_adapter(recipe, "par-lifelong")
        return super().settle(recipe)

    def open(self, stream: Stream, number: int) -> FittedRanker:
        return open_recipe_base(stream.recipe, stream.collections[number - 1])

    def prepare(self, stream: Stream, number: int, plan: Plan) -> Plan:
        expert, new, more = self.decide(stream, number)
        self._decided[number] = expert, new, more
        if new:
            return plan
        go_on_from(plan, stream, latest_stage(read_experts(stream, number - 1), expert))
        own = [p for group in plan.weights.parameter_groups() for p in group["params"]]
        return replace(plan, added=(*plan.added, HoldTo(own, self.strength)))

    def finish(self, stream: Stream, number: int, fitted: Fitted, folder: Path) -> dict[str, Any]:
        expert, new, more = self._decided[number]
        write_expert(folder, expert, new, more)
        return {"expert": expert, "new_expert": new, "relatedness": more["relatedness"]}

    def decide(self, stream: Stream, number: int) -> tuple[int, bool, dict[str, Any]]:
        """Return the expert of a stage, whether it is new, and the prototypes and the relatedness that said so."""
        train, dev = (features_of(stream, number - 1, split) for split in ("train", "dev"))
        own = Prototypes.of(train, dev, self.prototypes, stream.recipe.seed)
        experts = read_experts(stream, number - 1)
        ratios = {each.stage: prototypes_in(each.more).relatedness(train) for each in experts}
        more = {"centres": own.centres.tolist(), "own": own.own, "relatedness": min(ratios.values(), default=None)}
        if ratios and min(ratios.values()) <= self.threshold:
            stage = min(ratios, key=lambda stage: ratios[stage])
            return experts[stage - 1].expert, False, more
        return count_experts(experts), True, more

    def rank(
        self, stream: Stream, number: int, place: int, candidates: Run, on_progress: ProgressCallback | None = None
    ) -> Run:
        experts = read_experts(stream, number)
        if not experts:
            return stream.rank_by(stream.tuned(0), place, candidates, on_progress)
        if place < number:
            expert = experts[place].expert
        else:
            features = features_asked(stream, place, list(candidates))
            expert = min(experts, key=lambda each: prototypes_in(each.more).relatedness(features)).expert
        return stream.rank_by(stream.tuned(latest_stage(experts, expert)), place, candidates, on_progress)


def prototypes_in(more: dict[str, Any]) -> Prototypes:
    """Return the prototypes that a stage wrote."""
    import numpy as np

    return Prototypes(np.asarray(more["centres"]), float(more["own"]))
