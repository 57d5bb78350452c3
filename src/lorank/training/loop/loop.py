"""The one training loop: lists in, loss out, whatever the ranker, the adapter and the loss are.

Each step's randomness (dropout and the like) comes from a seed made of (seed, step), and each epoch's lists
from (seed, epoch). So a checkpoint holds weights, optimizer moments and counters, and a run that was killed
and resumed is bit for bit the run that was not.

Several processes (``accelerate launch``) each score their share of a batch's lists and average gradients.
"""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from lorank.errors import Interrupted, LorankError
from lorank.training.hooks.hook import Access, Progress
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
from lorank.training.loop.interruption import note_interruption
from lorank.training.loop.run_state import Journal, Outcome, Run, best_name, restore_run, save_run
from lorank.training.loop.schedule import rate_factor
from lorank.training.loop.session import MAIN_MEASURE, MakeOptimizer, Session, adamw

MOST_LOOKS = 5
"""How often dev is looked at after the first step, where neither settings nor cost say otherwise."""
ALL_ZERO_STEPS = 10
"""A run whose loss is exactly 0 at this many first steps, or at all of a shorter one, is stopped with an error."""


def train(
    session: Session, *, on_progress: Callable[[Progress], None] = lambda progress: None, resume: bool = False
) -> Outcome:
    """Train the weights of ``session`` and leave the best ones (by ``session.measure`` on dev) in place.

    Args:
        session: What learns, from what, and how.
        on_progress: Called after every step and every evaluation.
        resume: Continue from the newest checkpoint in the session's folder, if there is one.

    Raises:
        LorankError: When the loss is not finite.
    """
    return Trainer(session, resume).run(on_progress)


class Trainer:
    """The loop's state: the session, its optimizer, where the run stands, and its journal."""

    def __init__(self, session: Session, resume: bool) -> None:
        self.accelerator = Accelerator()
        session.ranker.module.to(self.accelerator.device)
        more = (
            *memory_of(session.loss),
            *fast_slow(session.loss, session.ranker, session.settings),
            *keep_last(session.loss, session.held_out),
        )
        self.session = session = replace(session, hooks=(*session.hooks, *more))
        self.optimizer = session.make_optimizer(session.weights.parameter_groups(), session.settings)
        for group in self.optimizer.param_groups:
            group["base_lr"] = group["lr"]
        self.per_epoch = batches_an_epoch(session.lists, session.settings.batch_size)
        self.state = Run(Progress(step=0, steps=count_steps(session), epoch=0))
        self.budget, asked = session.budget, session.settings.evaluations
        self.looks = evaluation_steps(self.progress.steps, MOST_LOOKS if asked is None else asked)
        if session.looks is not None:
            self.looks = set(session.looks)
        saved = newest_checkpoint(session.folder / "checkpoints") if resume else None
        self.journal = Journal(session.folder / "metrics.jsonl", keep=saved is not None)
        access = self._access()
        for hook in session.hooks:
            hook.begin(access)
        if saved is not None:
            earlier = restore_run(saved, self.state, session.weights, self.optimizer, session.hooks, self.journal)
            if self.budget is not None:
                self.budget.earlier = earlier
        elif session.evaluate is not None:
            self.evaluate()
        session.weights.advance(self.progress.step, self.progress.steps)

    @property
    def progress(self) -> Progress:
        """Where the run stands."""
        return self.state.progress

    def run(self, on_progress: Callable[[Progress], None]) -> Outcome:
        """Take the steps that are left, evaluating and saving on the way.

        Raises:
            Interrupted: Ctrl-C was pressed; the step under way was finished and a checkpoint written.
        """
        settings, progress, outcome = self.session.settings, self.progress, self.state.outcome
        last_saved = last_tick = time.monotonic()
        with note_interruption() as interruption:
            while progress.step < progress.steps and not (outcome.stopped_early or outcome.out_of_time):
                with deterministic(self.accelerator.device):
                    self.step()
                outcome.out_of_time = self.budget is not None and self.budget.spent()
                looking = self._looks_now()
                now = time.monotonic()
                progress.seconds += now - last_tick
                last_tick = now
                on_progress(progress)
                if looking:
                    self.journal.write(self._training_line())
                    if self.session.evaluate is not None:
                        self.evaluate()
                        on_progress(progress)
                    progress.seconds += time.monotonic() - last_tick
                    last_tick = time.monotonic()
                due = interruption.asked or time.monotonic() - last_saved >= settings.checkpoint_seconds
                if self.accelerator.is_main_process and (due or looking):
                    self.save()
                    last_saved = time.monotonic()
                if interruption.asked:
                    raise Interrupted(
                        f"interrupted after step {progress.step} of {progress.steps}; a checkpoint is in "
                        f"{self.session.folder / 'checkpoints'}: resume=True, or --resume, goes on from it"
                    )
        return self._finish()

    def step(self) -> None:
        """Take one step: a forward and a backward pass for each part of the batch, then the optimizer's step."""
        session, progress, optimizer, hooks = self.session, self.progress, self.optimizer, self.session.hooks
        factor = rate_factor(self._position(), progress.steps, session.settings.warmup, session.settings.decay)
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        progress.lr = optimizer.param_groups[0]["lr"]
        for hook in hooks:
            hook.before_step(progress, optimizer)
        session.weights.set_training_mode()
        progress.loss = sum(self._backward(part) for part in range(session.settings.accumulate))
        self._average_gradients()
        for hook in hooks:
            hook.after_backward(progress, optimizer)
        if session.settings.clip is not None:
            torch.nn.utils.clip_grad_norm_(_parameters(optimizer), session.settings.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        progress.step += 1
        self._check_that_something_is_learned()
        session.weights.advance(progress.step, progress.steps)
        self.state.losses.append(progress.loss)
        for hook in hooks:
            hook.after_step(progress, optimizer)
        epoch = progress.step * session.settings.accumulate // self.per_epoch
        if epoch > progress.epoch:
            progress.epoch = epoch
            for hook in hooks:
                hook.at_epoch_end(progress)

    def evaluate(self) -> None:
        """Measure on dev, keep the weights where they are the best so far, and stop where patience ends."""
        session, progress, outcome = self.session, self.progress, self.state.outcome
        if session.evaluate is None:
            return
        began = time.monotonic()
        dev = session.evaluate()
        outcome.looks, outcome.look_seconds = outcome.looks + 1, outcome.look_seconds + time.monotonic() - began
        progress.dev = dev
        seconds = round(progress.seconds, 2)
        self.journal.write({"step": progress.step, "epoch": progress.epoch, "seconds": seconds, "dev": dev})
        for hook in session.hooks:
            hook.after_evaluation(progress)
        settled = all(hook.settled(progress) for hook in session.hooks)
        if not settled and not (outcome.out_of_time and outcome.best == -math.inf):
            return
        if dev[session.measure] > outcome.best:
            outcome.best, outcome.best_step, self.state.since_best = dev[session.measure], progress.step, 0
            write_checkpoint(session.folder / "checkpoints", best_name(progress.step), session.weights.state(), {})
        else:
            self.state.since_best += 1
            patience = session.settings.patience
            outcome.stopped_early = patience is not None and self.state.since_best >= patience

    def save(self) -> None:
        """Write a checkpoint of the run as it stands."""
        session = self.session
        elapsed = 0.0 if self.budget is None else self.budget.elapsed
        save_run(session.folder, self.state, session.weights, self.optimizer, session.hooks, self.journal, elapsed)

    def _looks_now(self) -> bool:
        """Return whether dev is looked at after this step: at the last one, and where it is planned and time allows."""
        progress = self.progress
        if self.state.outcome.out_of_time:
            return True
        last = progress.step == progress.steps
        return progress.step in self.looks and (last or self.budget is None or self.budget.has_time_to_look())

    def _position(self) -> float:
        """Return where the schedule of rates stands: at the run's step, or further where time runs ahead of it."""
        progress = self.progress
        if self.budget is None:
            return progress.step
        between = sum(progress.step < step < progress.steps for step in self.looks)
        return self.budget.position(progress.step, progress.steps, between)

    def _backward(self, part: int) -> float:
        """Add the gradients of one part of the step's batch, and return its share of the loss."""
        session, progress, settings = self.session, self.progress, self.session.settings
        chosen = lists_at(
            session.lists, progress.step * settings.accumulate + part, settings.batch_size, self.per_epoch
        )
        self.state.examples += len(chosen)
        mine = chosen[self.accelerator.process_index :: self.accelerator.num_processes] or chosen[:1]
        seed = seed_of(session.seed, progress.step, part, self.accelerator.process_index)
        batch = session.lists.collate(mine)
        value = session.batch_loss(
            session.ranker, session.inputs, batch, session.loss, settings, seed, self.accelerator.device
        )
        for hook in session.hooks:
            extra = hook.penalty(progress)
            value = value if extra is None else value + extra
        if not torch.isfinite(value):
            raise LorankError(
                f"the loss is {value.item()} at step {progress.step + 1}; lower the learning rate "
                f"(now {progress.lr:.2g}) or clip gradients harder (now {settings.clip})"
            )
        self.accelerator.backward(value / settings.accumulate)
        return value.item() / settings.accumulate

    def _check_that_something_is_learned(self) -> None:
        """Raise LorankError where the loss was exactly 0 at every one of the first steps: no list holds a contrast.

        A policy may earn nothing for longer than that.
        """
        if self.session.batch_loss is not list_loss:
            return
        self.state.zeros = self.state.zeros + 1 if self.progress.loss == 0 else 0
        if self.state.zeros == self.progress.step == min(ALL_ZERO_STEPS, self.progress.steps):
            raise LorankError(
                f"the loss was 0 at every one of the first {self.progress.step} steps, so nothing is learned: no list "
                "holds documents of different labels. Give negatives ('neg'), labels that differ, or --negatives with "
                "a first stage (--first-stage bm25) that finds some"
            )

    def _average_gradients(self) -> None:
        if self.accelerator.num_processes > 1:
            for parameter in _parameters(self.optimizer):
                if parameter.grad is not None:
                    parameter.grad = self.accelerator.reduce(parameter.grad, "mean")

    def _access(self) -> Access:
        session, evaluate = self.session, self.session.evaluate
        training = self._loss_over(session.lists, 0)

        def training_loss(step: int, loss: Loss | None = None) -> Tensor:
            return training(step * session.settings.accumulate, loss)

        return Access(
            self.optimizer,
            training_loss,
            None if session.held_out is None else self._loss_over(session.held_out, session.settings.accumulate),
            None if evaluate is None else lambda: evaluate()[session.measure],
            self.progress.steps,
        )

    def _loss_over(self, source: Lists, part: int) -> Callable[..., Tensor]:
        session, settings, device = self.session, self.session.settings, self.accelerator.device
        per_epoch = batches_an_epoch(source, settings.batch_size)
        take = session.hook_loss or session.batch_loss

        def value(index: int, loss: Loss | None = None) -> Tensor:
            batch = source.collate(lists_at(source, index, settings.batch_size, per_epoch))
            seed = seed_of(session.seed, index, part, 0)
            return take(session.ranker, session.inputs, batch, loss or session.loss, settings, seed, device)

        return value

    def _training_line(self) -> dict[str, Any]:
        progress, losses = self.progress, self.state.losses
        mean = sum(losses) / len(losses)
        losses.clear()
        return {
            "step": progress.step,
            "epoch": progress.epoch,
            "loss": mean,
            "lr": progress.lr,
            "seconds": round(progress.seconds, 2),
            "examples": self.state.examples,
        }

    def _finish(self) -> Outcome:
        outcome, progress, session = self.state.outcome, self.progress, self.session
        outcome.steps, outcome.seconds = progress.step, progress.seconds
        if session.evaluate is not None and outcome.best_step != progress.step:
            session.weights.load_state(
                read_checkpoint(session.folder / "checkpoints" / best_name(outcome.best_step))[0]
            )
        return outcome


def _parameters(optimizer: torch.optim.Optimizer) -> list[torch.nn.Parameter]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def count_steps(session: Session) -> int:
    """Return the number of steps that the settings ask for, by number or by epochs over the lists."""
    settings = session.settings
    per_epoch = batches_an_epoch(session.lists, settings.batch_size)
    return settings.count_steps(per_epoch, features=getattr(session.ranker, "kind", "") == "features")


def evaluation_steps(steps: int, count: int) -> set[int]:
    """Return the steps after which a run of ``steps`` looks at dev ``count`` times; the last step where that is 0.

    >>> sorted(evaluation_steps(10, 3))
    [3, 7, 10]
    """
    return {round(steps * (i + 1) / count) for i in range(count)} if count else {steps}


__all__ = [
    "MAIN_MEASURE",
    "MakeOptimizer",
    "Outcome",
    "Session",
    "Trainer",
    "adamw",
    "batches_an_epoch",
    "list_loss",
    "lists_at",
    "train",
]
