"""Rules compared: steps and CPU seconds to a fixed dev nDCG@10, rates swept; and what one step costs.

    OMP_NUM_THREADS=1 python benchmarks/rules.py [--rows lora loft ...] [--steps 30] [--ledger runs/rules.jsonl]
    OMP_NUM_THREADS=1 python benchmarks/rules.py --cost [--rounds 24]

The setting is that of setting.py: MiniLM as a bi-encoder on pydocs, LoRA of rank 8 on all linear layers (BiLoRA: the
same rank under gates), softmax loss over shared lists. Every row is run at every rate of its grid, and at more where
dev is best at an edge. Within a run dev nDCG@10 over ``--queries`` queries is taken every ``--every`` steps; its time
is not counted. The goal is what plain LoRA gains over the untrained ranker by its best rate, times ``--share``; a
row's steps and seconds are the fewest over its rates. A run is one line of the ledger and is not made twice, so a
killed sweep goes on where it stopped.

With --cost every rule makes one training step in turn, round after round, in one process. Process CPU time; the ratio
of a row to plain LoRA is taken within each round. The median is the cost of an ordinary step, the mean holds what a
rule does only now and then, such as Fast Forward's tries. Two rows are excepted from the bound of 1.15, and shown:
LoRA-Pro with full moments, and BiLoRA, whose upper level makes three more passes.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from setting import LORA_PARAMETERS, MEASURE, Ledger, Setting, Trial, Wiring, at_an_edge, run_trial

import lorank
from lorank.lowrank.rules import Losses, Rates, make_rule
from lorank.ranking import loss as named_loss
from lorank.ranking.scorers import BiEncoder
from lorank.ranking.scorers.bi_encoder import Pooling
from lorank.training.hooks.hook import Access, Hook, Progress
from lorank.training.hooks.rule import make_stepping, without_clipping
from lorank.training.loop.loop import adamw, batches_an_epoch, list_loss, lists_at
from lorank.training.settings import AdapterSettings, OptimizerSettings, RuleSettings
from lorank.training.weights import AdapterWeights, WholeWeights, make_weights

ADAM = (3e-4, 1e-3, 3e-3, 1e-2)
WHOLE_WEIGHT = (1e-5, 3e-5, 1e-4, 3e-4)
"""Rates of rules whose steps are Adam's on W itself."""


@dataclass(frozen=True)
class Row:
    """A rule with its options, and the rates at which it is tried."""

    rule: str
    rates: Sequence[float] = ADAM
    options: dict[str, Any] = field(default_factory=dict)
    method: str = "lora"
    bound: bool = True

    @property
    def adapter(self) -> AdapterSettings:
        """The adapter whose factors step."""
        return AdapterSettings(self.method, rank=LORA_PARAMETERS)


ROWS = {
    "lora": Row("adamw"),
    "rslora": Row("adamw", method="rslora"),
    "lora-plus": Row("lora-plus", (1e-4, 3e-4, 1e-3, 3e-3)),
    "lora-pro": Row("lora-pro", WHOLE_WEIGHT, {"moments": "full"}, bound=False),
    "lora-pro-factored": Row("lora-pro", (1e-4, 3e-4, 1e-3, 3e-3), {"moments": "factored"}),
    "loft": Row("loft", WHOLE_WEIGHT),
    "altlora": Row("altlora", (1e-3, 1e-2, 1e-1, 1.0)),
    "allora": Row("allora"),
    "riemannian": Row("riemannian"),
    "coto": Row("coto"),
    "chain-of-lora": Row("chain-of-lora"),
    "fast-forward": Row("fast-forward"),
    "bilora": Row("bilora", (1e-2, 3e-2, 9e-2, 3e-3), method="bilora", bound=False),
    "polyak-momentum": Row("polyak-momentum", (1e-2, 1e-1, 1.0, 10.0)),
}


@dataclass
class RuleSetting(Setting):
    """The shared setting, unclipped where a rule must see raw gradients, and read by ``pooling``."""

    pooling: Pooling = "mean"

    def ranker(self) -> BiEncoder:
        """Return MiniLM anew, read at its first token or by the mean."""
        return BiEncoder("minilm", max_length=self.length, dtype="auto", pooling=self.pooling)

    def settings(self, trial: Trial) -> OptimizerSettings:
        """Return the loop's settings for a run."""
        shared, row = super().settings(trial), ROWS[trial.row]
        clips = make_rule(row.rule, **row.options).clips
        return shared if clips else OptimizerSettings(**{**vars(shared), "clip": None})


class Curve(Hook):
    """Takes dev nDCG@10 every few steps; ``points`` are (step, CPU seconds of training so far, value)."""

    def __init__(self, measure: Callable[[], float], every: int) -> None:
        self.measure, self.every = measure, every
        self.points: list[tuple[int, float, float]] = []
        self.spent = self.last = 0.0

    def begin(self, access: Access) -> None:
        """Start with the untrained ranker."""
        self.points.append((0, 0.0, self.measure()))
        self.last = time.process_time()

    def after_step(self, progress: Progress, optimizer: torch.optim.Optimizer) -> None:
        """Stop the clock, measure, and start it again."""
        self.spent += time.process_time() - self.last
        if progress.step % self.every == 0 or progress.step == progress.steps:
            self.points.append((progress.step, round(self.spent, 3), self.measure()))
        self.last = time.process_time()


def run(setting: RuleSetting, trial: Trial, every: int, queries: int) -> dict[str, Any]:
    """Return the ledger's line of one run, its curve included."""
    row, curves = ROWS[trial.row], []

    def wire(weights: AdapterWeights | WholeWeights, _: Setting, trial: Trial) -> Wiring:
        by = make_stepping(RuleSettings(row.rule, row.options), weights.adapter, row.method)
        curve = Curve(lambda: setting.dev(weights.ranker, weights, queries), every)
        curves.append(curve)
        return [*([by] if by else []), curve], by.make_optimizer if by else adamw

    line = run_trial(setting, trial, wire)
    return line | {"curve": curves[0].points, "cpu_seconds": curves[0].spent}


def sweep(
    ledger: Ledger,
    setting: RuleSetting,
    rows: Sequence[str],
    places: Sequence[int],
    steps: int,
    every: int,
    queries: int,
    seed: int,
) -> None:
    """Run every row at the rates of its grid; where all are asked for, further where dev is best at an edge."""
    for name in rows:
        rates = [ROWS[name].rates[place] for place in places]
        for rate in rates:
            trial = Trial(name, ROWS[name].adapter, rate, seed, steps)
            ledger.run(trial, lambda trial=trial: run(setting, trial, every, queries))
        while len(places) == len(ROWS[name].rates) and (rate := at_an_edge(ledger, name, seed, rates)) is not None:
            trial = Trial(name, ROWS[name].adapter, rate, seed, steps)
            if trial.key in ledger.lines:
                break
            ledger.run(trial, lambda trial=trial: run(setting, trial, every, queries))


def reached(curve: Sequence[Sequence[float]], goal: float) -> tuple[int, float] | None:
    """Return (step, seconds) of the first point of ``curve`` at ``goal`` or above, or None."""
    return next(((int(step), seconds) for step, seconds, value in curve if value >= goal), None)


def to_goal(ledger: Ledger, rows: Sequence[str], steps: int, seed: int, share: float) -> str:
    """Return the table of steps and seconds to the goal in Markdown."""
    lines = {
        name: [
            line
            for line in ledger.lines.values()
            if line["row"] == name and line["seed"] == seed and line["steps"] == steps and "curve" in line
        ]
        for name in rows
    }
    plain = max((line["curve"] for line in lines["lora"]), key=lambda curve: curve[-1][2])
    goal = plain[0][2] + share * (plain[-1][2] - plain[0][2])
    table = [
        f"dev {MEASURE} within the runs: untrained {plain[0][2]:.4f}, goal {goal:.4f}\n",
        f"| rule | rate | steps to goal | CPU s to goal | s a step | dev at the end | test {MEASURE} |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name in rows:
        if not lines[name]:
            table.append(f"| {name} | every run failed | | | | | |")
            continue
        hits = [(*found, line) for line in lines[name] if (found := reached(line["curve"], goal)) is not None]
        best = min(hits, key=lambda hit: hit[:2])[2] if hits else max(lines[name], key=lambda line: line["dev"])
        found, end = reached(best["curve"], goal), best["curve"][-1]
        took = f"{found[0]} | {found[1]:.1f}" if found else f"not in {steps} | "
        test = statistics.fmean(best["test"].values())
        table.append(f"| {name} | {best['rate']:g} | {took} | {end[1] / end[0]:.3f} | {end[2]:.4f} | {test:.4f} |")
    return "\n".join(table)


def make_step(setting: RuleSetting, name: str) -> Callable[[], None]:
    """Return a function that makes one training step of a row, as the loop makes it."""
    row, loss = ROWS[name], named_loss("softmax")
    settings = setting.settings(Trial(name, row.adapter, row.rates[0]))
    ranker = setting.ranker()
    weights = make_weights(ranker, row.adapter, 0, None)
    by = make_stepping(RuleSettings(row.rule, row.options), weights.adapter, row.method)
    rule = by.rule if by else make_rule("adamw")
    settings = without_clipping(settings, by)
    optimizer = rule.optimizer(weights.parameter_groups(), weights.adapter, Rates(settings.lr, settings.betas))
    device = torch.device("cpu")

    def loss_on(lists: Any, index: int) -> torch.Tensor:
        chosen = lists_at(lists, index, settings.batch_size, batches_an_epoch(lists, settings.batch_size))
        return list_loss(ranker, setting.inputs, lists.collate(chosen), loss, settings, index, device)

    steps, done = 1_000_000, 0
    rule.begin(
        weights.adapter,
        optimizer,
        steps,
        Losses(lambda step: loss_on(setting.lists, 0), lambda index: loss_on(setting.held_out, 0)),
    )

    def step() -> None:
        nonlocal done
        rule.before_step(done, steps)
        weights.set_training_mode()
        value, penalty = loss_on(setting.lists, 0), rule.penalty()
        value = value if penalty is None else value + penalty
        value.backward()
        rule.after_backward(value.item())
        if settings.clip is not None:
            torch.nn.utils.clip_grad_norm_([p for g in optimizer.param_groups for p in g["params"]], settings.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        done += 1
        rule.after_step(done, steps)

    return step


def cost(setting: RuleSetting, rows: Sequence[str], rounds: int) -> str:
    """Return the table of a step's cost in Markdown; every round holds one step of every row, on the same lists."""
    rows = list(dict.fromkeys(["lora", *rows]))
    steps = {name: make_step(setting, name) for name in rows}
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    for index in range(rounds + 2):
        for name in rows if index % 2 else reversed(rows):
            begun = time.process_time()
            steps[name]()
            if index >= 2:
                seconds[name].append(time.process_time() - begun)
        print(f"round {index - 1} of {rounds}", file=sys.stderr, flush=True)
    table = ["| rule | CPU s a step | median ratio to LoRA | mean ratio | bound 1.15 |", "|---|---:|---:|---:|---|"]
    for name in rows:
        ratio = statistics.median(a / b for a, b in zip(seconds[name], seconds["lora"], strict=True))
        mean = sum(seconds[name]) / sum(seconds["lora"])
        kept = ("kept" if ratio <= 1.15 else "missed") if ROWS[name].bound else "excepted"
        table.append(f"| {name} | {statistics.median(seconds[name]):.3f} | {ratio:.3f} | {mean:.3f} | {kept} |")
    return "\n".join(table)


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=ROWS)
    parser.add_argument("--cost", action="store_true", help="time single steps and nothing else")
    parser.add_argument("--rounds", type=int, default=24, help="with --cost: timed steps a row")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--every", type=int, default=5, help="steps between dev measurements")
    parser.add_argument("--queries", type=int, default=40, help="dev queries of a measurement within a run")
    parser.add_argument("--share", type=float, default=0.9, help="of plain LoRA's gain that is the goal")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pooling", choices=("mean", "cls"), default="mean", help="cls: what MiniLM must learn anew")
    parser.add_argument(
        "--rates",
        nargs="+",
        type=int,
        choices=range(4),
        default=range(4),
        help="which of a row's four rates to try, from 0; fewer are not followed beyond an edge",
    )
    parser.add_argument("--ledger", type=Path, default=Path("runs/rules.jsonl"))
    given = parser.parse_args()
    setting = RuleSetting(lorank.load("pydocs"), pooling=given.pooling)
    if given.cost:
        print(cost(setting, given.rows, given.rounds))
        return
    ledger, rows = Ledger(given.ledger), list(dict.fromkeys(["lora", *given.rows]))
    sweep(ledger, setting, rows, given.rates, given.steps, given.every, given.queries, given.seed)
    print(to_goal(ledger, rows, given.steps, given.seed, given.share))


if __name__ == "__main__":
    main()
