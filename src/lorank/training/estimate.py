"""How long a run will take, before its first step: from three measured steps and one measured look at dev.

A measured step is the forward and the backward pass over a batch that the run will train on; no weight moves, and what
a loss remembers is put back. The measured look is that at the untuned base, which the run needs anyway. The estimate is
kept in estimate.json.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from lorank.errors import DataError
from lorank.ranking.losses import loss as named_loss
from lorank.ranking.losses import requirements_of
from lorank.training.dev import Clock
from lorank.training.hooks.loss_memory import memory_of
from lorank.training.lists.list_loss import Loss, batches_an_epoch, deterministic, list_loss, lists_at, seed_of
from lorank.training.plan import Plan
from lorank.training.settings import OptimizerSettings

ESTIMATE = "estimate.json"
MEASURED_STEPS = 3


@dataclass(frozen=True)
class Estimate:
    """What a run is expected to take, in seconds.

    Attributes:
        steps: The number of steps.
        step_seconds: The time of one.
        looks: The steps after which dev is looked at.
        look_seconds: The time of one look; there is one more before the first step.
        test_seconds: The time of the judgement on test, 0 where there is none.
        queries: The number of dev queries that a look scores.
        depth: How deep their lists are, None where they came with the data.
        minutes: The bound on the run's time, where there is one.
        stepping: The time that is left for steps, without looks, where the run's time is bounded.
    """

    steps: int
    step_seconds: float
    looks: list[int]
    look_seconds: float
    test_seconds: float
    queries: int
    depth: int | None
    minutes: float | None = None
    stepping: float = 0.0

    @property
    def dev_seconds(self) -> float:
        """The time of all looks at dev."""
        return (len(self.looks) + 1) * self.look_seconds

    @property
    def seconds(self) -> float:
        """The time of steps, looks and the judgement on test."""
        return self.steps * self.step_seconds + self.dev_seconds + self.test_seconds

    @property
    def dev_share(self) -> float:
        """The share of the time that looks at dev take.

        >>> Estimate(30, 1.0, [15, 30], 2.0, 4.0, 100, 100).dev_share
        0.15
        """
        return self.dev_seconds / self.seconds if self.seconds > 0 else 0.0

    def describe(self) -> str:
        """Return the estimate as one line.

        >>> Estimate(250, 2.1, [125, 250], 43.0, 66.0, 200, 100).describe()
        'about 12 min: 250 steps of 2.1 s, dev evaluation 18%, test 9%'
        """
        test = f", test {self.test_seconds / self.seconds:.0%}" if self.test_seconds else ""
        bound = "" if self.minutes is None else f" (of {self.minutes:g} min)"
        steps = f"{self.steps} step{'' if self.steps == 1 else 's'} of {spell_seconds(self.step_seconds)}"
        return f"about {spell_seconds(self.seconds)}{bound}: {steps}, dev evaluation {self.dev_share:.0%}{test}"

    def record(self) -> dict[str, Any]:
        """Return the estimate as JSON data, with the totals."""
        return {**asdict(self), "seconds": self.seconds, "dev_share": self.dev_share, "sentence": self.describe()}


def spell_seconds(seconds: float) -> str:
    """Return a time in the unit that a reader would choose.

    >>> [spell_seconds(s) for s in (0.0213, 2.1, 34.0, 720.0, 9000.0)]
    ['0.02 s', '2.1 s', '34 s', '12 min', '2.5 h']
    """
    if seconds < 100:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def read_estimate(path: Path) -> Estimate | None:
    """Return the estimate that a run wrote, None where there is none."""
    if not path.is_file():
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return Estimate(**{key: data[key] for key in Estimate.__dataclass_fields__})
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(path, None, f"not what a run writes ({error!r})", "start anew with --overwrite") from error


def time_steps(plan: Plan, clock: Clock, count: int = MEASURED_STEPS) -> float:
    """Return the median time of forward and backward passes over the run's first ``count`` batches; nothing changes."""
    settings, device, loss, times = plan.settings, plan.ranker.device, plan.loss, 1
    if "slow" in requirements_of(loss):  # its second module is made when the loop begins, and is trained by DPO as well
        loss, times = named_loss("dpo"), 2
    memory = [(hook, {name: tensor.clone() for name, tensor in hook.state().items()}) for hook in memory_of(loss)]
    plan.weights.set_training_mode()
    try:
        with deterministic(device):
            return times * median(_time_step(plan, loss, settings, index, clock) for index in range(count))
    finally:
        for hook, state in memory:
            hook.load_state(state)


def _time_step(plan: Plan, loss: Loss, settings: OptimizerSettings, index: int, clock: Clock) -> float:
    device, per_epoch = plan.ranker.device, batches_an_epoch(plan.lists, settings.batch_size)
    began = clock()
    for part in range(settings.accumulate):
        chosen = lists_at(plan.lists, index * settings.accumulate + part, settings.batch_size, per_epoch)
        seed = seed_of(plan.recipe.seed, index, part, 0)
        batch = plan.lists.collate(chosen)
        value = list_loss(plan.ranker, plan.inputs, batch, loss, settings, seed, device)
        if value.requires_grad:
            value.backward()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    taken = clock() - began
    for group in plan.weights.parameter_groups():
        for parameter in group["params"]:
            parameter.grad = None
    return taken
