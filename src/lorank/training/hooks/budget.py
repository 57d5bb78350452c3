"""How the loop uses a budget of `lorank.lowrank.budgets`: its events as a hook, its ranks in a journal.

budget.jsonl in the run folder has a line for the start and for every event that changed ranks: the step, the sum of
ranks, and the rank of each layer. A resumed run cuts it back to its checkpoint.
"""

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from lorank.errors import UsageError, unknown_name
from lorank.files import write_text
from lorank.lowrank import Adapter, LayerPlan, Settings
from lorank.lowrank.budgets import DYNAMIC, STATIC, Budget, Timetable, make_budget, share_ranks_of
from lorank.lowrank.installing import make_sites
from lorank.lowrank.presets import preset
from lorank.lowrank.scaling import default_alpha
from lorank.lowrank.starts import Statistics
from lorank.ranking import loss as named_loss
from lorank.training.hooks.hook import Access, Hook, Progress
from lorank.training.settings import AdapterSettings, BudgetSettings
from lorank.training.weights import WHOLE, rank_of

AUTO, NONE = "auto", "none"
JOURNAL = "budget.jsonl"


class Budgeting(Hook):
    """One dynamic budget in one run.

    Args:
        budget: The budget over the forms of the run's adapter.
        journal: The file that receives the ranks.
        metric_loss: The loss whose gradient follows the metric, for a budget that reads it.
    """

    def __init__(self, budget: Budget, journal: Path, metric_loss: Callable[..., Tensor] | None = None) -> None:
        self.budget, self.journal, self.metric_loss = budget, journal, metric_loss
        self._begun, self._step = False, 0

    @property
    def name(self) -> str:
        """Name the budget, since the state is its own."""
        return f"{type(self).__name__} {type(self.budget).__name__}"

    def begin(self, access: Access) -> None:
        """Hand the budget what it may use."""
        held_out = access.held_out_loss
        if held_out is not None and self.budget.metric_loss:
            held_out = partial(held_out, loss=self.metric_loss)
        self.budget.begin(
            SimpleNamespace(
                optimizer=access.optimizer,
                training_loss=access.training_loss,
                held_out_loss=held_out,
                measure=access.measure,
            )
        )

    def before_step(self, progress: Progress, optimizer: torch.optim.Optimizer) -> None:
        """Delegate to ``Budget.before_step``; before the first step the journal begins."""
        if not self._begun:
            self._begun = True
            write_text(self.journal, "")
            self._write(0)
        self.budget.before_step(progress.step, progress.steps)

    def penalty(self, progress: Progress) -> Tensor | None:
        """Delegate to ``Budget.penalty``."""
        return self.budget.penalty(progress.step, progress.steps)

    def after_backward(self, progress: Progress, optimizer: torch.optim.Optimizer) -> None:
        """Delegate to ``Budget.after_backward``."""
        self.budget.after_backward(progress.step, progress.steps)

    def after_step(self, progress: Progress, optimizer: torch.optim.Optimizer) -> None:
        """Delegate to ``Budget.after_step``, and write down the ranks where they may have changed."""
        self._step = progress.step
        if self.budget.after_step(progress.step, progress.steps):
            self._write(progress.step)

    def settled(self, progress: Progress) -> bool:
        """Return whether ranks have reached their end."""
        return self.budget.settled(progress.step, progress.steps)

    def state(self) -> dict[str, Tensor]:
        """Return what the budget remembers, and the step of the journal."""
        own = {f"budget.{key}": tensor for key, tensor in self.budget.state().items()}
        return own | {"step": torch.tensor(self._step)}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what ``state`` gave, and cut the journal to the step."""
        self._begun, self._step = True, int(state["step"])
        self.budget.load_state({key.removeprefix("budget."): t for key, t in state.items() if key != "step"})
        lines = self.journal.read_text().splitlines(keepends=True) if self.journal.exists() else []
        whole = [line for line in lines if line.endswith("\n")]
        write_text(self.journal, "".join(line for line in whole if json.loads(line)["step"] <= self._step))

    def _write(self, step: int) -> None:
        ranks = self.budget.ranks()
        with self.journal.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "total": sum(ranks.values()), "ranks": ranks}) + "\n")


@dataclass(frozen=True)
class Chosen:
    """The budget of a run: its ``name`` ("none" where there is none) and the adapter that it is to work on."""

    name: str
    adapter: AdapterSettings


def choose_budget(budget: BudgetSettings, adapter: AdapterSettings) -> Chosen:
    """Return the budget that the settings mean; a dynamic one on "lora" makes the adapter its own gated form.

    >>> choose_budget(BudgetSettings("adalora"), AdapterSettings("lora")).adapter.name
    'adalora'
    >>> choose_budget(BudgetSettings(), AdapterSettings("increlora")).name
    'increlora'
    """
    own = NONE if adapter.name in WHOLE else preset(adapter.name).budget
    name = own if budget.name == AUTO else budget.name
    if name == NONE:
        if own in DYNAMIC or budget.options or budget.total is not None:
            raise UsageError(
                f"adapter {adapter.name!r} has no budget, so that budget.total and other options of one are not used; "
                "name a budget as budget.name"
            )
        return Chosen(NONE, adapter)
    if adapter.name in WHOLE:
        raise UsageError(
            f"budget {name!r} gives ranks to a low-rank adapter, and {adapter.name!r} trains whole "
            "weights; leave the budget out, or choose an adapter"
        )
    if name in DYNAMIC and own != name:
        if adapter.name != "lora":
            raise UsageError(
                f"budget {name!r} switches rank-1 components of its own form and cannot work on adapter "
                f"{adapter.name!r}; choose --adapter lora or --adapter {name}"
            )
        return Chosen(name, replace(adapter, name=name))
    if name not in DYNAMIC and name not in STATIC:
        raise unknown_name("budget", name, {*DYNAMIC, *STATIC, NONE})
    return Chosen(name, adapter)


def check_budget_options(name: str, options: Mapping[str, Any]) -> None:
    """Raise UsageError for options that the budget called ``name`` does not have."""
    own = budget_options(name)
    for option in options:
        if option not in own:
            raise unknown_name(f"option of budget {name!r}:", option, own)


def budget_options(name: str) -> tuple[str, ...]:
    """Return the names of the options of the budget called ``name``; a static one, or "none", has none.

    >>> budget_options("adalora")[:3], budget_options("none")
    (('warmup', 'final', 'every'), ())
    """
    if name not in DYNAMIC:
        return ()
    given = list(inspect.signature(DYNAMIC[name]).parameters.values())[3:]
    own = [each.name for each in given if each.kind is each.KEYWORD_ONLY and each.name != "seed"]
    return (*(field.name for field in fields(Timetable)), *own)


def make_budgeting(
    name: str,
    settings: BudgetSettings,
    adapter: Adapter | None,
    journal: Path,
    seed: int,
) -> Budgeting | None:
    """Return what runs the dynamic budget ``name``, or None where it is static or there is none.

    Args:
        name: The name of a budget, or "none".
        settings: The total and the options of the budget.
        adapter: The run's adapter; None where whole weights are trained.
        journal: The file that receives the ranks.
        seed: The seed of the budget's draws.
    """
    if name not in DYNAMIC or adapter is None:
        return None
    budget = make_budget(name, adapter.forms, settings.total, seed=seed, **settings.options)
    return Budgeting(budget, journal, named_loss("lambda") if budget.metric_loss else None)


def statistics_of_budget(name: str) -> frozenset[str]:
    """Return the kinds of statistics that the static budget ``name`` reads."""
    return STATIC[name].needs if name in STATIC else frozenset()


def compute_shared_ranks(
    name: str,
    settings: BudgetSettings,
    adapter: AdapterSettings,
    module: nn.Module,
    layers: Mapping[str, Any],
    statistics: Mapping[str, Statistics] | None,
) -> dict[str, int] | None:
    """Return the ranks that the static budget ``name`` gives to ``layers``, or None where it is not static.

    Args:
        name: The name of a budget, or "none".
        settings: The total of the budget; None makes it the adapter's rank per layer.
        adapter: The settings of the adapter, of which rank, alpha and scaling are read.
        module: The module that holds the layers.
        layers: The layers that the adapter will change, by path.
        statistics: What the calibration pass found of each layer, by path; None where there was no pass.

    Raises:
        UsageError: If options are given, which static budgets do not have, or statistics are missing.
    """
    if name not in STATIC:
        return None
    if settings.options:
        raise UsageError(f"budget {name!r} has no options; it was given {', '.join(settings.options)}")
    scaling = adapter.scaling or preset(adapter.name).scaling
    rank = rank_of(adapter)
    alpha = default_alpha(scaling, rank) if adapter.alpha is None else adapter.alpha
    plan = dict.fromkeys(layers, LayerPlan(rank, alpha))
    sites = make_sites(module, Settings(scaling=scaling, rank=rank, alpha=alpha), plan)
    total = rank * len(sites) if settings.total is None else settings.total
    return share_ranks_of(name, sites, statistics or {}, total)
