"""The one training loop: lists in, loss out, whatever the ranker, the adapter and the loss are.

Each step's randomness (dropout and the like) comes from a seed made of (seed, step), and each epoch's lists
from (seed, epoch). So a checkpoint holds weights, optimizer moments and counters, and a run that was killed
and resumed is bit for bit the run that was not.

Several processes (``accelerate launch``) each score their share of a batch's lists and average gradients.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from lorank.errors import LorankError
from lorank.ranking.scorers.ranker import TrainableRanker
from lorank.training.hooks.hook import Access, Hook, Progress
from lorank.training.hooks.keep_last import keep_last
from lorank.training.hooks.loss_memory import memory_of
from lorank.training.hooks.ofs_dpo import fast_slow
from lorank.training.lists.list_loss import (
    Lists,
    Loss,
    batches_an_epoch,
    deterministic,
    list_loss,
    lists_at,
    seed_of,
)
from lorank.training.loop.checkpoints import newest_checkpoint, read_checkpoint, write_checkpoint
from lorank.training.loop.run_state import Journal, Outcome, Run, best_name, restore_run, save_run
from lorank.training.loop.schedule import rate_factor
from lorank.training.settings import OptimizerSettings
from lorank.training.weights import Weights

MAIN_MEASURE = "nDCG@10"
MakeOptimizer = Callable[[list[dict[str, Any]], OptimizerSettings], torch.optim.Optimizer]


def adamw(groups: list[dict[str, Any]], settings: OptimizerSettings) -> torch.optim.Optimizer:
    """Return AdamW over parameter groups, which may state a rate ``lr`` of their own."""
    return torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, weight_decay=settings.weight_decay)


def train(
    ranker: TrainableRanker,
    inputs: Any,
    weights: Weights,
    lists: Lists,
    loss: Loss,
    settings: OptimizerSettings,
    *,
    seed: int,
    folder: Path,
    evaluate: Callable[[], dict[str, float]] | None = None,
    hooks: Sequence[Hook] = (),
    held_out: Lists | None = None,
    make_optimizer: MakeOptimizer = adamw,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    resume: bool = False,
) -> Outcome:
    """Train ``weights`` and leave the best ones (by dev nDCG@10) in place.

    ``inputs`` is what ``ranker.prepare`` gave; ``folder`` receives metrics.jsonl and checkpoints/;
    ``evaluate`` returns dev measures and is called ``settings.evaluations`` times; ``held_out`` are lists that
    hooks may take a loss on and that are never trained on; ``make_optimizer`` gets the parameter groups;
    ``on_progress`` is called at every step. With ``resume`` the newest checkpoint is taken up, if there is one.
    Raises LorankError when the loss is not finite.
    """
    accelerator = Accelerator()
    ranker.module.to(accelerator.device)
    hooks = (*hooks, *memory_of(loss), *fast_slow(loss, ranker, settings), *keep_last(loss, held_out))
    optimizer = make_optimizer(weights.parameter_groups(), settings)
    for group in optimizer.param_groups:
        group["base_lr"] = group["lr"]
    per_epoch = batches_an_epoch(lists, settings.batch_size)
    steps = settings.steps or max(1, round(settings.epochs * per_epoch / settings.accumulate))
    run = Run(Progress(step=0, steps=steps, epoch=0))
    saved = newest_checkpoint(folder / "checkpoints") if resume else None
    journal = Journal(folder / "metrics.jsonl", keep=saved is not None)
    access = _access(
        ranker, inputs, lists, held_out, loss, settings, seed, optimizer, evaluate, accelerator.device, steps
    )
    for hook in hooks:
        hook.begin(access)
    if saved is not None:
        restore_run(saved, run, weights, optimizer, hooks, journal)
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
        on_progress(run.progress)
        if run.progress.step in evaluations:
            journal.write(_training_line(run))
            if evaluate is not None:
                _evaluate(run, evaluate, weights, journal, folder, settings, hooks)
                on_progress(run.progress)
            run.progress.seconds += time.monotonic() - last_tick
            last_tick = time.monotonic()
        due = time.monotonic() - last_saved >= settings.checkpoint_seconds
        if accelerator.is_main_process and (due or run.progress.step in evaluations):
            save_run(folder, run, weights, optimizer, hooks, journal)
            last_saved = time.monotonic()
    return _finish(run, weights, folder, evaluate is not None)


def _step(
    run: Run,
    ranker: TrainableRanker,
    inputs: Any,
    weights: Weights,
    lists: Lists,
    loss: Loss,
    optimizer: torch.optim.Optimizer,
    settings: OptimizerSettings,
    seed: int,
    hooks: Sequence[Hook],
    per_epoch: int,
    accelerator: Accelerator,
) -> None:
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
        mine = chosen[accelerator.process_index :: accelerator.num_processes]
        value = list_loss(
            ranker,
            inputs,
            lists.collate(mine or chosen[:1]),
            loss,
            settings,
            seed_of(seed, progress.step, part, accelerator.process_index),
            accelerator.device,
        )
        for hook in hooks:
            extra = hook.penalty(progress)
            value = value if extra is None else value + extra
        if not torch.isfinite(value):
            raise LorankError(
                f"the loss is {value.item()} at step {progress.step + 1}; lower the learning rate "
                f"(now {progress.lr:.2g}) or clip gradients harder (now {settings.clip})"
            )
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


def _access(
    ranker: TrainableRanker,
    inputs: Any,
    lists: Lists,
    held_out: Lists | None,
    loss: Loss,
    settings: OptimizerSettings,
    seed: int,
    optimizer: torch.optim.Optimizer,
    evaluate: Callable[[], dict[str, float]] | None,
    device: torch.device,
    steps: int,
) -> Access:
    own = loss

    def loss_over(source: Lists, part: int) -> Callable[..., Tensor]:
        per_epoch = batches_an_epoch(source, settings.batch_size)

        def value(index: int, loss: Loss | None = None) -> Tensor:
            batch = source.collate(lists_at(source, index, settings.batch_size, per_epoch))
            return list_loss(ranker, inputs, batch, loss or own, settings, seed_of(seed, index, part, 0), device)

        return value

    training = loss_over(lists, 0)
    return Access(
        optimizer,
        lambda step, loss=None: training(step * settings.accumulate, loss),
        None if held_out is None else loss_over(held_out, settings.accumulate),
        None if evaluate is None else lambda: evaluate()[MAIN_MEASURE],
        steps,
    )


def _parameters(optimizer: torch.optim.Optimizer) -> list[torch.nn.Parameter]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _average_gradients(optimizer: torch.optim.Optimizer, accelerator: Accelerator) -> None:
    if accelerator.num_processes > 1:
        for parameter in _parameters(optimizer):
            if parameter.grad is not None:
                parameter.grad = accelerator.reduce(parameter.grad, "mean")


def _evaluation_steps(steps: int, evaluations: int) -> set[int]:
    return {round(steps * (i + 1) / evaluations) for i in range(evaluations)} if evaluations else {steps}


def _evaluate(
    run: Run,
    evaluate: Callable[[], dict[str, float]],
    weights: Weights,
    journal: Journal,
    folder: Path,
    settings: OptimizerSettings,
    hooks: Sequence[Hook],
) -> None:
    dev = evaluate()
    run.progress.dev = dev
    journal.write(
        {"step": run.progress.step, "epoch": run.progress.epoch, "seconds": round(run.progress.seconds, 2), "dev": dev}
    )
    for hook in hooks:
        hook.after_evaluation(run.progress)
    outcome = run.outcome
    if not all(hook.settled(run.progress) for hook in hooks):
        return
    if dev[MAIN_MEASURE] > outcome.best:
        outcome.best, outcome.best_step, run.since_best = dev[MAIN_MEASURE], run.progress.step, 0
        write_checkpoint(folder / "checkpoints", best_name(outcome.best_step), weights.state(), {})
    else:
        run.since_best += 1
        outcome.stopped_early = settings.patience is not None and run.since_best >= settings.patience


def _training_line(run: Run) -> dict[str, Any]:
    progress = run.progress
    mean = sum(run.losses) / len(run.losses)
    run.losses.clear()
    return {
        "step": progress.step,
        "epoch": progress.epoch,
        "loss": mean,
        "lr": progress.lr,
        "seconds": round(progress.seconds, 2),
        "examples": run.examples,
    }


def _finish(run: Run, weights: Weights, folder: Path, evaluated: bool) -> Outcome:
    outcome = run.outcome
    outcome.steps, outcome.seconds = run.progress.step, run.progress.seconds
    if evaluated and outcome.best_step != run.progress.step:
        weights.load_state(read_checkpoint(folder / "checkpoints" / best_name(outcome.best_step))[0])
    return outcome


__all__ = [
    "MAIN_MEASURE",
    "MakeOptimizer",
    "Outcome",
    "adamw",
    "batches_an_epoch",
    "list_loss",
    "lists_at",
    "train",
]
