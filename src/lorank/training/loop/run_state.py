"""A run between two steps: where it stands, its journal, and both in a checkpoint and back.

A checkpoint holds weights, the optimizer's moments, what hooks remember, and counters; nothing else is needed to go
on with the same bits, as each step's randomness comes from its number.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorank.errors import LorankError
from lorank.training.hooks.hook import Hook, Progress
from lorank.training.loop.checkpoints import drop_old_checkpoints, read_checkpoint, write_checkpoint
from lorank.training.weights import Weights


@dataclass
class Outcome:
    """How a run ended.

    Attributes:
        steps: The steps done.
        best_step: The step of the best dev value.
        best: The best dev value.
        seconds: The seconds of steps and looks at dev, but for the look before the first step.
        stopped_early: Whether patience ended the run.
        out_of_time: Whether its budget of time ended the run before its last planned step.
        looks: How often dev was looked at.
        look_seconds: The seconds that these looks took.
    """

    steps: int = 0
    best_step: int = 0
    best: float = -math.inf
    seconds: float = 0.0
    stopped_early: bool = False
    out_of_time: bool = False
    looks: int = 0
    look_seconds: float = 0.0


@dataclass
class Run:
    """The state of a run between two steps."""

    progress: Progress
    outcome: Outcome = field(default_factory=Outcome)
    since_best: int = 0
    losses: list[float] = field(default_factory=list)
    examples: int = 0
    zeros: int = 0


class Journal:
    """metrics.jsonl: appended to as the run goes, cut back to the checkpoint when a run is resumed."""

    def __init__(self, path: Path, keep: bool) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        if not keep:
            path.write_text("")

    def write(self, line: dict[str, Any]) -> None:
        """Append one line."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def size(self) -> int:
        """Return the bytes written so far."""
        return self.path.stat().st_size if self.path.exists() else 0

    def cut(self, size: int) -> None:
        """Drop what was written after the first ``size`` bytes."""
        if self.size() > size:
            with self.path.open("r+b") as file:
                file.truncate(size)


def best_name(step: int) -> str:
    """Return the name of the checkpoint that holds the best weights, of ``step``."""
    return f"best-{step:08d}"


def save_run(
    folder: Path,
    run: Run,
    weights: Weights,
    optimizer: torch.optim.Optimizer,
    hooks: Sequence[Hook],
    journal: Journal,
    elapsed: float = 0.0,
) -> None:
    """Write the run's checkpoint under ``folder/checkpoints`` and drop older ones, but for the best weights.

    Args:
        folder: The run folder.
        run: The state of the run.
        weights: What is trained.
        optimizer: Its optimizer.
        hooks: The hooks, whose state is kept by name.
        journal: The run's journal.
        elapsed: The seconds of a run whose time is bounded.
    """
    tensors = {f"weights.{k}": v for k, v in weights.state().items()}
    for index, entry in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": torch.as_tensor(v) for k, v in entry.items()}
    for name, hook in name_hooks(hooks).items():
        tensors |= {f"hook/{name}/{k}": v for k, v in hook.state().items()}
    progress, outcome = run.progress, run.outcome
    numbers = {
        "step": progress.step,
        "epoch": progress.epoch,
        "steps": progress.steps,
        "seconds": progress.seconds,
        "dev": progress.dev,
        "best": outcome.best if outcome.best > -math.inf else None,
        "best_step": outcome.best_step,
        "stopped_early": outcome.stopped_early,
        "out_of_time": outcome.out_of_time,
        "looks": outcome.looks,
        "look_seconds": outcome.look_seconds,
        "elapsed": elapsed,
        "since_best": run.since_best,
        "losses": run.losses,
        "examples": run.examples,
        "journal": journal.size(),
        "hooks": list(name_hooks(hooks)),
    }
    name = f"step-{progress.step:08d}"
    write_checkpoint(folder / "checkpoints", name, tensors, numbers)
    drop_old_checkpoints(folder / "checkpoints", keep={name, best_name(outcome.best_step)})


def restore_run(
    path: Path, run: Run, weights: Weights, optimizer: torch.optim.Optimizer, hooks: Sequence[Hook], journal: Journal
) -> float:
    """Put the run, its weights, its optimizer, its hooks and its journal back to a checkpoint.

    Args:
        path: The checkpoint's folder.
        run: The run, of the same length.
        weights: What is trained.
        optimizer: The optimizer, which takes the moments.
        hooks: The hooks, of the same names.
        journal: The journal, which is cut back.

    Returns:
        The seconds that a run whose time is bounded had taken.

    Raises:
        LorankError: If the checkpoint is of a run of another length, or with other hooks.
    """
    tensors, numbers = read_checkpoint(path)
    if numbers["steps"] != run.progress.steps:
        raise LorankError(
            f"{path}: the checkpoint is of a run of {numbers['steps']} steps, this one has "
            f"{run.progress.steps}; resume with the same data and settings, or start anew"
        )
    named = name_hooks(hooks)
    if "hooks" in numbers and set(numbers["hooks"]) != set(named):
        raise LorankError(
            f"{path}: the checkpoint was written with the hooks {_words(numbers['hooks'])}, this run has "
            f"{_words(named)}; resume with the same adapter, budget, rule, loss and hooks, or start anew"
        )
    weights.load_state(_under("weights.", tensors))
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in _under("optimizer.", tensors).items():
        number, name = key.split(".", 1)
        moments.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    for index, (name, hook) in enumerate(named.items()):
        hook.load_state(_under(f"hook/{name}/" if "hooks" in numbers else f"hook.{index}.", tensors))
    progress, outcome = run.progress, run.outcome
    progress.step, progress.epoch, progress.seconds = numbers["step"], numbers["epoch"], numbers["seconds"]
    progress.dev = numbers["dev"]
    outcome.best = -math.inf if numbers["best"] is None else numbers["best"]
    outcome.best_step, outcome.stopped_early = numbers["best_step"], numbers["stopped_early"]
    outcome.out_of_time = numbers.get("out_of_time", False)
    outcome.looks, outcome.look_seconds = numbers.get("looks", 0), numbers.get("look_seconds", 0.0)
    run.since_best, run.losses, run.examples = numbers["since_best"], numbers["losses"], numbers["examples"]
    journal.cut(numbers["journal"])
    return float(numbers.get("elapsed", 0.0))


def name_hooks(hooks: Sequence[Hook]) -> dict[str, Hook]:
    """Return the hooks by name; of several with one name, the second is called ``name 2``, and so on.

    Hooks that only watch are left out.
    """
    named: dict[str, Hook] = {}
    for hook in hooks:
        if hook.watches:
            continue
        name, number = hook.name, 1
        while name in named:
            number += 1
            name = f"{hook.name} {number}"
        named[name] = hook
    return named


def _words(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "(none)"


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
