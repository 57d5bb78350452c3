"""The one training loop: lists in, loss out, whatever the ranker, the adapter and the loss are.

Each step's randomness (dropout and the like) comes from a seed made of (seed, step), and each epoch's lists
from (seed, epoch). So a checkpoint holds weights, optimizer moments and counters, and a run that was killed
and resumed is bit for bit the run that was not.

Several processes (``accelerate launch``) each score their share of a batch's lists and average gradients.
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor

from lorank.data.candidates import TrainingList
from lorank.errors import LorankError
from lorank.ranking.scorers.precision import best_precision
from lorank.ranking.scorers.ranker import TrainableRanker
from lorank.training.batches import ListBatch
from lorank.training.checkpoints import (
    drop_old_checkpoints,
    newest_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from lorank.training.extras import extras_for, memory_of
from lorank.training.fast_slow import fast_slow
from lorank.training.hooks import Access, Hook, Progress
from lorank.training.keep_last import keep_last
from lorank.training.schedule import rate_factor
from lorank.training.settings import OptimizerSettings

Loss = Callable[..., Tensor]
MAIN_MEASURE = "nDCG@10"


class Weights(Protocol):
    """What is trained: an adapter, a head, or a whole module."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return optimizer groups: ``params``, and ``lr`` where it differs from the run's."""
        ...

    def set_training_mode(self) -> None:
        """Switch on what behaves differently in training, such as dropout."""
        ...

    def advance(self, step: int, steps: int) -> None:
        """Hear that ``step`` of ``steps`` are done."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Return all that training changes, by name."""
        ...

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what ``state`` gave."""
        ...


class Lists(Protocol):
    """Where training lists come from: a pure function of the epoch."""

    def epoch(self, epoch: int) -> Sequence[TrainingList]:
        """Return the lists of an epoch in the order in which they are seen."""
        ...

    def collate(self, lists: Sequence[TrainingList]) -> ListBatch:
        """Lay lists out as one grid."""
        ...


MakeOptimizer = Callable[[list[dict[str, Any]], OptimizerSettings], torch.optim.Optimizer]


def adamw(groups: list[dict[str, Any]], settings: OptimizerSettings) -> torch.optim.Optimizer:
    """Return AdamW over parameter groups, which may state a rate ``lr`` of their own."""
    return torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, weight_decay=settings.weight_decay)


@dataclass
class Outcome:
    """How a run ended: steps done, the best dev value and its step, seconds of training."""

    steps: int = 0
    best_step: int = 0
    best: float = -math.inf
    seconds: float = 0.0
    stopped_early: bool = False


@dataclass
class _Run:
    """The state of a run between two steps."""

    progress: Progress
    outcome: Outcome = field(default_factory=Outcome)
    since_best: int = 0
    losses: list[float] = field(default_factory=list)
    examples: int = 0


def train(ranker: TrainableRanker, inputs: Any, weights: Weights, lists: Lists, loss: Loss,
          settings: OptimizerSettings, *, seed: int, folder: Path,
          evaluate: Callable[[], dict[str, float]] | None = None, hooks: Sequence[Hook] = (),
          held_out: Lists | None = None, make_optimizer: MakeOptimizer = adamw,
          listen: Callable[[Progress], None] = lambda progress: None, resume: bool = False) -> Outcome:
    """Train ``weights`` and leave the best ones (by dev nDCG@10) in place.

    ``inputs`` is what ``ranker.prepare`` gave; ``folder`` receives metrics.jsonl and checkpoints/;
    ``evaluate`` returns dev measures and is called ``settings.evaluations`` times; ``held_out`` are lists that
    hooks may take a loss on and that are never trained on; ``make_optimizer`` gets the parameter groups; ``listen``
    hears of every step. With ``resume`` the newest checkpoint is taken up, if there is one. Raises LorankError when
    the loss is not finite.
    """
    accelerator = Accelerator()
    ranker.module.to(accelerator.device)
    hooks = (*hooks, *memory_of(loss), *fast_slow(loss, ranker, settings), *keep_last(loss, held_out))
    optimizer = make_optimizer(weights.parameter_groups(), settings)
    for group in optimizer.param_groups:
        group["base_lr"] = group["lr"]
    per_epoch = batches_an_epoch(lists, settings.batch_size)
    steps = settings.steps or max(1, round(settings.epochs * per_epoch / settings.accumulate))
    run = _Run(Progress(step=0, steps=steps, epoch=0))
    saved = newest_checkpoint(folder / "checkpoints") if resume else None
    journal = _Journal(folder / "metrics.jsonl", keep=saved is not None)
    access = _access(ranker, inputs, lists, held_out, loss, settings, seed, optimizer, evaluate, accelerator.device,
                     steps)
    for hook in hooks:
        hook.begin(access)
    if saved is not None:
        _restore(saved, run, weights, optimizer, hooks, journal)
    elif evaluate is not None:
        _evaluate(run, evaluate, weights, journal, folder, settings, hooks)
    weights.advance(run.progress.step, steps)
    evaluations = _evaluation_steps(steps, settings.evaluations)
    last_saved = last_tick = time.monotonic()
    while run.progress.step < steps and not run.outcome.stopped_early:
        with deterministic(accelerator.device):
            _step(run, ranker, inputs, weights, lists, loss, optimizer, settings, seed, hooks, per_epoch, accelerator)
        now = time.monotonic()
        run.progress.seconds += now - last_tick
        last_tick = now
        listen(run.progress)
        if run.progress.step in evaluations:
            journal.write(_training_line(run))
            if evaluate is not None:
                _evaluate(run, evaluate, weights, journal, folder, settings, hooks)
                listen(run.progress)
            run.progress.seconds += time.monotonic() - last_tick
            last_tick = time.monotonic()
        due = time.monotonic() - last_saved >= settings.checkpoint_seconds
        if accelerator.is_main_process and (due or run.progress.step in evaluations):
            _save(folder, run, weights, optimizer, hooks, journal)
            last_saved = time.monotonic()
    return _finish(run, weights, folder, evaluate is not None)


def _step(run: _Run, ranker: TrainableRanker, inputs: Any, weights: Weights, lists: Lists, loss: Loss,
          optimizer: torch.optim.Optimizer, settings: OptimizerSettings, seed: int, hooks: Sequence[Hook],
          per_epoch: int, accelerator: Accelerator) -> None:
    progress = run.progress
    factor = rate_factor(progress.step, progress.steps, settings.warmup, settings.decay)
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
    progress.lr = optimizer.param_groups[0]["lr"]
    for hook in hooks:
        hook.before_step(progress, optimizer)
    weights.set_training_mode()
    total = 0.0
    for part in range(settings.accumulate):
        chosen = lists_at(lists, progress.step * settings.accumulate + part, settings.batch_size, per_epoch)
        run.examples += len(chosen)
        mine = chosen[accelerator.process_index::accelerator.num_processes]
        value = list_loss(ranker, inputs, lists.collate(mine or chosen[:1]), loss, settings,
                          _seed_of(seed, progress.step, part, accelerator.process_index), accelerator.device)
        for hook in hooks:
            extra = hook.penalty(progress)
            value = value if extra is None else value + extra
        if not torch.isfinite(value):
            raise LorankError(f"the loss is {value.item()} at step {progress.step + 1}; lower the learning rate "
                              f"(now {progress.lr:.2g}) or clip gradients harder (now {settings.clip})")
        accelerator.backward(value / settings.accumulate)
        total += value.item() / settings.accumulate
    _average_gradients(optimizer, accelerator)
    progress.loss = total
    for hook in hooks:
        hook.after_backward(progress, optimizer)
    if settings.clip is not None:
        torch.nn.utils.clip_grad_norm_(_parameters(optimizer), settings.clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    progress.step += 1
    weights.advance(progress.step, progress.steps)
    run.losses.append(total)
    for hook in hooks:
        hook.after_step(progress, optimizer)
    epoch = progress.step * settings.accumulate // per_epoch
    if epoch > progress.epoch:
        progress.epoch = epoch
        for hook in hooks:
            hook.at_epoch_end(progress)


def lists_at(lists: Lists, index: int, batch_size: int, per_epoch: int) -> Sequence[TrainingList]:
    """Return the lists of batch ``index``, counted on from epoch to epoch of ``per_epoch`` batches each."""
    epoch, place = divmod(index, per_epoch)
    return lists.epoch(epoch)[place * batch_size:(place + 1) * batch_size]


def batches_an_epoch(lists: Lists, batch_size: int) -> int:
    """Return the number of batches that an epoch has, the last of which may be smaller."""
    return max(1, math.ceil(len(lists.epoch(0)) / batch_size))


def list_loss(ranker: TrainableRanker, inputs: Any, batch: ListBatch, loss: Loss, settings: OptimizerSettings,
              step_seed: int, device: torch.device) -> Tensor:
    """Return the loss of a batch, with its graph; ``step_seed`` is what dropout draws from."""
    batch = batch.to(device)
    half = trains_in_bf16(settings.precision, device)
    devices = [device] if device.type == "cuda" else []
    precision = partial(torch.autocast, device.type, torch.bfloat16) if half else nullcontext
    extras = extras_for(loss, ranker, inputs, batch, precision)
    with torch.random.fork_rng(devices=devices), precision():
        torch.manual_seed(step_seed)
        scores = ranker.forward(inputs, batch.queries, batch.documents, batch.mask).float()
    if batch.first_stage is not None:
        scores = scores + batch.first_stage
    weights = () if batch.weights is None else (batch.weights,)
    return loss(scores, batch.labels, batch.mask, *weights, **extras)


def _access(ranker: TrainableRanker, inputs: Any, lists: Lists, held_out: Lists | None, loss: Loss,
            settings: OptimizerSettings, seed: int, optimizer: torch.optim.Optimizer,
            evaluate: Callable[[], dict[str, float]] | None, device: torch.device, steps: int) -> Access:
    own = loss

    def loss_over(source: Lists, part: int) -> Callable[..., Tensor]:
        per_epoch = batches_an_epoch(source, settings.batch_size)

        def value(index: int, loss: Loss | None = None) -> Tensor:
            batch = source.collate(lists_at(source, index, settings.batch_size, per_epoch))
            return list_loss(ranker, inputs, batch, loss or own, settings, _seed_of(seed, index, part, 0), device)

        return value

    training = loss_over(lists, 0)
    return Access(
        optimizer,
        lambda step, loss=None: training(step * settings.accumulate, loss),
        None if held_out is None else loss_over(held_out, settings.accumulate),
        None if evaluate is None else lambda: evaluate()[MAIN_MEASURE],
        steps)


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """Within it sums on a CPU run in one order, so that equal runs are equal to the bit with several threads too."""
    if device.type != "cpu":
        yield
        return
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
        torch.utils.deterministic.fill_uninitialized_memory = filled


def trains_in_bf16(precision: str, device: torch.device) -> bool:
    """Return whether products are in bf16; "auto" asks what the hardware has, so a resumed run decides alike."""
    return precision == "bf16" or (precision == "auto" and best_precision(device.type) is torch.bfloat16)


def _seed_of(seed: int, step: int, part: int, process: int) -> int:
    mixed = 0
    for value in (seed, step, part, process):
        mixed = (mixed * 1_000_003 + value) % (2**63 - 1)
    return mixed


def _parameters(optimizer: torch.optim.Optimizer) -> list[torch.nn.Parameter]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _average_gradients(optimizer: torch.optim.Optimizer, accelerator: Accelerator) -> None:
    if accelerator.num_processes > 1:
        for parameter in _parameters(optimizer):
            if parameter.grad is not None:
                parameter.grad = accelerator.reduce(parameter.grad, "mean")


def _evaluation_steps(steps: int, evaluations: int) -> set[int]:
    return {round(steps * (i + 1) / evaluations) for i in range(evaluations)} if evaluations else {steps}


def _evaluate(run: _Run, evaluate: Callable[[], dict[str, float]], weights: Weights, journal: "_Journal",
              folder: Path, settings: OptimizerSettings, hooks: Sequence[Hook]) -> None:
    dev = evaluate()
    run.progress.dev = dev
    journal.write({"step": run.progress.step, "epoch": run.progress.epoch,
                   "seconds": round(run.progress.seconds, 2), "dev": dev})
    for hook in hooks:
        hook.after_evaluation(run.progress)
    outcome = run.outcome
    if not all(hook.settled(run.progress) for hook in hooks):
        return
    if dev[MAIN_MEASURE] > outcome.best:
        outcome.best, outcome.best_step, run.since_best = dev[MAIN_MEASURE], run.progress.step, 0
        write_checkpoint(folder / "checkpoints", _best_name(outcome.best_step), weights.state(), {})
    else:
        run.since_best += 1
        outcome.stopped_early = settings.patience is not None and run.since_best >= settings.patience


def _training_line(run: _Run) -> dict[str, Any]:
    progress = run.progress
    mean = sum(run.losses) / len(run.losses)
    run.losses.clear()
    return {"step": progress.step, "epoch": progress.epoch, "loss": mean, "lr": progress.lr,
            "seconds": round(progress.seconds, 2), "examples": run.examples}


def _best_name(step: int) -> str:
    return f"best-{step:08d}"


def _save(folder: Path, run: _Run, weights: Weights, optimizer: torch.optim.Optimizer, hooks: Sequence[Hook],
          journal: "_Journal") -> None:
    tensors = {f"weights.{k}": v for k, v in weights.state().items()}
    for index, entry in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": torch.as_tensor(v) for k, v in entry.items()}
    for index, hook in enumerate(hooks):
        tensors |= {f"hook.{index}.{k}": v for k, v in hook.state().items()}
    progress, outcome = run.progress, run.outcome
    numbers = {"step": progress.step, "epoch": progress.epoch, "steps": progress.steps, "seconds": progress.seconds,
               "dev": progress.dev, "best": outcome.best if outcome.best > -math.inf else None,
               "best_step": outcome.best_step, "stopped_early": outcome.stopped_early,
               "since_best": run.since_best, "losses": run.losses, "examples": run.examples,
               "journal": journal.size()}
    name = f"step-{progress.step:08d}"
    write_checkpoint(folder / "checkpoints", name, tensors, numbers)
    drop_old_checkpoints(folder / "checkpoints", keep={name, _best_name(outcome.best_step)})


def _restore(path: Path, run: _Run, weights: Weights, optimizer: torch.optim.Optimizer, hooks: Sequence[Hook],
             journal: "_Journal") -> None:
    tensors, numbers = read_checkpoint(path)
    if numbers["steps"] != run.progress.steps:
        raise LorankError(f"{path}: the checkpoint is of a run of {numbers['steps']} steps, this one has "
                          f"{run.progress.steps}; resume with the same data and settings, or start anew")
    weights.load_state(_under("weights.", tensors))
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in _under("optimizer.", tensors).items():
        index, name = key.split(".", 1)
        moments.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    for index, hook in enumerate(hooks):
        hook.load_state(_under(f"hook.{index}.", tensors))
    progress, outcome = run.progress, run.outcome
    progress.step, progress.epoch, progress.seconds = numbers["step"], numbers["epoch"], numbers["seconds"]
    progress.dev = numbers["dev"]
    outcome.best = -math.inf if numbers["best"] is None else numbers["best"]
    outcome.best_step, outcome.stopped_early = numbers["best_step"], numbers["stopped_early"]
    run.since_best, run.losses, run.examples = numbers["since_best"], numbers["losses"], numbers["examples"]
    journal.cut(numbers["journal"])


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _finish(run: _Run, weights: Weights, folder: Path, evaluated: bool) -> Outcome:
    outcome = run.outcome
    outcome.steps, outcome.seconds = run.progress.step, run.progress.seconds
    if evaluated and outcome.best_step != run.progress.step:
        weights.load_state(read_checkpoint(folder / "checkpoints" / _best_name(outcome.best_step))[0])
    return outcome


class _Journal:
    """metrics.jsonl: appended to as the run goes, cut back to the checkpoint when a run is resumed."""

    def __init__(self, path: Path, keep: bool) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        if not keep:
            path.write_text("")

    def write(self, line: dict[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def cut(self, size: int) -> None:
        if self.size() > size:
            with self.path.open("r+b") as file:
                file.truncate(size)
