r"""TAME: a shift in the loss spawns an expert, and a selector sends each query to its own; nobody names a collection.

Before a stage trains, the mean loss m' of each expert on its first n = ``batches`` batches is held against the mean m
and the deviation s of the expert's own last k losses: a shift is

    (m' - m) / (s sqrt(1 / n + 1 / k)) > ``sigmas``

Where no expert is at home a new adapter is spawned from the base; otherwise the one with the lowest loss goes on. At
inference a linear selector over features of queries, fitted to the training queries of all experts, routes every query
by itself.

Zhu, Majzoubi, Jain, Choromanska, TAME: Task Agnostic Continual Learning using Multiple Experts, 2022, arXiv:2210.03869.

*Deviations*: the loss is watched where a stage begins, whose lists come from one collection, and its mean is tested, as
the loss of a batch is noisy (`lorank.continual.core.shifts` watches a stream without stages); the selector is a ridge
regression in the place of a network; experts are not pruned. An expert's own losses are those of its last steps.
"""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lorank.catalogue import catalogued
from lorank.continual.core.experts import (
    StageExpert,
    check_adapter,
    count_experts,
    features_asked,
    features_of,
    latest_stage,
    read_experts,
    write_expert,
)
from lorank.continual.core.features import Selector
from lorank.continual.core.method import continual_method, go_on_from
from lorank.continual.core.shifts import shift_of_means
from lorank.continual.core.step_loss import step_loss
from lorank.continual.core.stream import Stream
from lorank.continual.sequential import Sequential
from lorank.errors import UsageError
from lorank.progress import ProgressCallback
from lorank.ranking.scorers.ranker import FittedRanker
from lorank.ranking.types import Run
from lorank.training.fitting import Fitted
from lorank.training.hooks.hook import Hook, Progress
from lorank.training.open_recipe import open_recipe_base
from lorank.training.plan import Plan
from lorank.training.recipe import RecipeFile

WINDOW = 30
"""How many losses of an expert's last steps say what is usual for it."""


class KeepLosses(Hook):
    """Keeps the losses of the last steps."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def after_step(self, progress: Progress, optimizer: torch.optim.Optimizer) -> None:
        """Keep the loss of the step."""
        self.losses = [*self.losses, progress.loss][-WINDOW:]

    def state(self) -> dict[str, torch.Tensor]:
        """Return the losses."""
        return {"losses": torch.tensor(self.losses, dtype=torch.float64)}

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """Restore them."""
        self.losses = state["losses"].tolist()


@continual_method("tame")
@catalogued("tame", area="continual", title="TAME: Task Agnostic Continual Learning using Multiple Experts")
class Tame(Sequential):
    """Experts by shifts of the loss, and a selector.

    Args:
        sigmas: How many standard deviations are a deviation.
        batches: How many batches of a new stage are looked at.
    """

    def __init__(self, sigmas: float = 3.0, batches: int = 8) -> None:
        if not (sigmas > 0 and math.isfinite(sigmas)):
            raise UsageError(f"continual.sigmas is {sigmas!r}; give a number above 0")
        if not 1 <= batches <= 1000:
            raise UsageError(f"continual.batches is {batches!r}; give a number of batches from 1 to 1000")
        self.sigmas, self.batches = sigmas, batches
        self._decided: dict[int, tuple[int, bool]] = {}
        self._losses = KeepLosses()

    def settle(self, recipe: RecipeFile) -> RecipeFile:
        check_adapter(recipe, "tame")
        return super().settle(recipe)

    def open(self, stream: Stream, number: int) -> FittedRanker:
        return open_recipe_base(stream.recipe, stream.collections[number - 1])

    def prepare(self, stream: Stream, number: int, plan: Plan) -> Plan:
        experts = read_experts(stream, number - 1)
        began = {name: tensor.clone() for name, tensor in plan.weights.state().items()}
        at_home: dict[int, float] = {}
        for expert in sorted({each.expert for each in experts}):
            stage = latest_stage(experts, expert)
            go_on_from(plan, stream, stage)
            mean = self.home(plan, experts[stage - 1].more["losses"])
            if mean is not None:
                at_home[expert] = mean
        plan.weights.load_state(began)
        chosen, new = count_experts(experts), True
        if at_home:
            chosen, new = min(at_home, key=lambda expert: at_home[expert]), False
            go_on_from(plan, stream, latest_stage(experts, chosen))
        self._decided[number] = chosen, new
        self._losses = KeepLosses()
        return replace(plan, added=(*plan.added, self._losses))

    def home(self, plan: Plan, usual: list[float]) -> float | None:
        """Return the mean loss of the plan's weights on the first batches; None where it deviates from the usual."""
        losses = [batch_loss(plan, step) for step in range(self.batches)]
        return None if shift_of_means(usual, losses) > self.sigmas else float(np.mean(losses))

    def finish(self, stream: Stream, number: int, fitted: Fitted, folder: Path) -> dict[str, Any]:
        expert, new = self._decided[number]
        write_expert(folder, expert, new, {"losses": self._losses.losses})
        return {"expert": expert, "new_expert": new}

    def rank(
        self, stream: Stream, number: int, place: int, candidates: Run, on_progress: ProgressCallback | None = None
    ) -> Run:
        experts = read_experts(stream, number)
        if not experts:
            return stream.rank_by(stream.tuned(0), place, candidates, on_progress)
        chosen = self.route(stream, experts, place, list(candidates))
        found: Run = {}
        for expert in sorted(set(chosen.values())):
            own = {query: row for query, row in candidates.items() if chosen[query] == expert}
            found |= stream.rank_by(stream.tuned(latest_stage(experts, expert)), place, own, on_progress)
        return found

    def route(self, stream: Stream, experts: list[StageExpert], place: int, queries: list[str]) -> dict[str, int]:
        """Return the expert of each query of a test set, as the selector says."""
        trained = [features_of(stream, each.stage - 1, "train") for each in experts]
        owners = np.repeat([each.expert for each in experts], [len(features) for features in trained])
        chosen = Selector.fit(np.concatenate(trained), owners).choose(features_asked(stream, place, queries))
        return dict(zip(queries, chosen.tolist(), strict=True))


@torch.no_grad()
def batch_loss(plan: Plan, step: int) -> float:
    """Return the loss of the plan's weights on the lists of a step."""
    return float(step_loss(plan, step, plan.ranker, plan.loss))
