"""Budgets of ranks at equal final size: quality, cost, and whether the metric leads better than the loss.

    OMP_NUM_THREADS=1 python benchmarks/budgets.py --ledger B.jsonl      the table, resumable, row by row
    OMP_NUM_THREADS=1 python benchmarks/budgets.py --ledger B.jsonl --rows lora adalora metric-importance --seeds 3
    OMP_NUM_THREADS=1 python benchmarks/budgets.py --ledger B.jsonl --equal      at equal final values, after the first
    OMP_NUM_THREADS=1 python benchmarks/budgets.py --cost --clock cpu    what a step costs

The setting is setting.py's. Every row ends with the same sum of ranks, that of plain LoRA at ``--rank``; rates are
swept per row, one more is tried beyond an edge, dev chooses. Static rows run one calibration pass of four batches
first. What a row trains on the way (AdaLoRA starts with half as many components again, ElaLoRA holds room for twice
as many) is in the column "trained"; what it ends with in "final". Equal sums of ranks are not equal numbers of values,
for layers differ in size: --equal runs every row again to which that makes a difference of a rank, at its dev-best rate
and the rank that brings it nearest to plain LoRA's values (ledger B-equal.jsonl).

--cost times single steps on random tokens, all rows in turn within one process, and prints each row's median ratio to
plain LoRA of the same rank in the same round: of ordinary steps, of steps that hold an event (every fourth here), and
of both weighed as with an event every --every steps. A limit of 1.15 is set on the last for all but diffora,
autolora-meta and alora-allocate, which look at held-out batches by their nature, and qdylora, whose base is
dequantised in either pass. metric-importance's held-out batch is within its events.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from setting import Ledger, Setting, Trial, at_an_edge, over_seeds, run_trial, table

import lorank
from lorank import lowrank
from lorank.lowrank import select_targets
from lorank.lowrank.budgets import DYNAMIC, STATIC, Budget, make_budget
from lorank.ranking import loss as named_loss
from lorank.ranking.metrics.groups import group_tied_queries
from lorank.training.hooks.budget import Budgeting, compute_shared_ranks
from lorank.training.settings import AdapterSettings, BudgetSettings
from lorank.training.weights import AdapterWeights

EXCEPTED = ("diffora", "autolora-meta", "alora-allocate", "qdylora")
WARM, PACE = 2, 4
"""Of --cost: untimed rounds, and the steps between two events."""
ROWS = [
    "lora",
    "adalora",
    "metric-importance",
    "elalora",
    "increlora",
    "sora",
    "dora-dynamic",
    "lora-squared",
    "triadaptlora",
    "sensitivity-lora",
    "eva",
    "gora",
    "plop",
    "lamda-plus-plus",
    "dylora",
    "selective-lora-indicator",
    "diffora",
    "autolora-meta",
    "alora-allocate",
]
RATES = (1e-3, 3e-3, 1e-2)
OPTIONS: dict[str, dict[str, Any]] = {
    "alora-allocate": {"sample": 8},
    "sora": {"sparsity": 1.0},
    "selective-lora-indicator": {"rate": 0.1},
}


class Wired:
    """Puts a row's budget into its run and remembers it."""

    def __init__(self, row: str, every: int) -> None:
        self.row, self.every, self.budget = row, every, None

    def __call__(self, weights: AdapterWeights, setting: Setting, trial: Trial) -> tuple[list[Any], Any]:
        from lorank.training.loop.loop import adamw

        if self.row not in DYNAMIC:
            return [], adamw
        own = {"every": self.every, **OPTIONS.get(self.row, {})}
        self.budget = make_budget(self.row, weights.adapter.forms, seed=trial.seed, **own)
        return [Budgeting(self.budget, Path("/dev/null"), named_loss("lambda"))], adamw


def run_row(setting: Setting, trial: Trial, every: int) -> dict[str, Any]:
    """Train and judge one row's run."""
    row, begun, ranks = trial.row, time.process_time(), None
    if row in STATIC:
        ranker = setting.ranker()
        layers = select_targets(ranker.module, trial.adapter.targets, trial.adapter.exclude)
        seen = setting.statistics(ranker, trial, STATIC[row].needs)
        ranks = compute_shared_ranks(row, BudgetSettings(row), trial.adapter, ranker.module, layers, seen)
    shared = time.process_time() - begun
    wired = Wired(row, every)
    line = run_trial(setting, trial, wired, ranks=ranks)
    line["cpu_seconds"] = round(line["cpu_seconds"] + shared, 2)
    if wired.budget is not None:
        forms = wired.budget.forms
        line["ranks"] = {path: len(form.as_lora().A) for path, form in forms.items()}
        line["final_parameters"] = sum(
            rank * (forms[path].in_features + forms[path].out_features) for path, rank in line["ranks"].items()
        )
    return line


def trial_of(row: str, rank: int, rate: float, seed: int, steps: int) -> Trial:
    """Return a row's run; static rows are plain LoRA whose ranks are shared out beforehand."""
    name = row if row in DYNAMIC else "lora"
    return Trial(row, AdapterSettings(name, rank=rank), rate, seed, steps)


def sweep(given: argparse.Namespace) -> None:
    """Run all rows at all rates and seeds that the ledger lacks, and print the tables."""
    ledger = Ledger(given.ledger)
    setting: list[Setting] = []

    def prepared() -> Setting:
        if not setting:
            setting.append(Setting(lorank.load("pydocs")))
        return setting[0]

    def run(row: str, rate: float, seed: int) -> None:
        trial = trial_of(row, given.rank, rate, seed, given.steps)
        ledger.run(trial, lambda: run_row(prepared(), trial, given.every))

    for seed in range(given.seeds):
        for row in given.rows:
            if seed == 0:
                for rate in given.rates:
                    run(row, rate, seed)
                beyond = at_an_edge(ledger, row, seed, given.rates)
                if beyond is not None:
                    run(row, beyond, seed)
            else:
                best = ledger.best(row, 0)
                if best is not None:
                    run(row, best["rate"], seed)
    print(f"{given.steps} steps, rank {given.rank} on average, events every {given.every} steps\n")
    if "lora" in given.rows:
        print(table(ledger, given.rows, "lora", group_tied_queries(lorank.load("pydocs").test.qrels)))
    print("\n" + sizes(ledger, given.rows))
    if given.seeds > 1:
        print("\n" + over_seeds(ledger, given.rows))


def final_values(line: dict[str, Any]) -> int:
    """Return how many values the adapter of a run has at its end."""
    return line.get("final_parameters", line["parameters"])


def equalise(given: argparse.Namespace) -> None:
    """Run rows again at the rank that gives as many final values as plain LoRA has, and print the table."""
    ledger, again = Ledger(given.ledger), Ledger(given.ledger.with_stem(f"{given.ledger.stem}-equal"))
    data = lorank.load("pydocs")
    best = {row: line for row in given.rows if (line := ledger.best(row, 0)) is not None}
    goal, setting = final_values(best["lora"]), Setting(data)
    for row, line in best.items():
        rank = round(given.rank * goal / final_values(line))
        if rank != given.rank:
            trial = trial_of(row, rank, line["rate"], 0, given.steps)
            again.run(trial, lambda trial=trial: run_row(setting, trial, given.every))
    rows = ["lora", *(line["row"] for line in again.lines.values())]
    again.lines[best["lora"]["key"]] = best["lora"]
    print(table(again, rows, "lora", group_tied_queries(data.test.qrels)))
    print("\n" + sizes(again, rows))


def sizes(ledger: Ledger, rows: list[str]) -> str:
    """Return a table of each row's final ranks."""
    lines = [
        "| row | trained | final | ranks: sum | least | most | layers at 0 |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        line = ledger.best(row, 0)
        if line is not None:
            ranks = list(line["ranks"].values())
            lines.append(
                f"| {row} | {line['parameters']:,} | {final_values(line):,} | {sum(ranks)} | {min(ranks)} "
                f"| {max(ranks)} | {ranks.count(0)} |"
            )
    return "\n".join(lines)


def stepper(row: str, rank: int, batch: int, tokens: int, every: int) -> Callable[[], None]:
    """Return a function that makes one training step of a row on MiniLM, events and penalties with it."""
    from lorank.ranking.scorers import BiEncoder

    model = BiEncoder("minilm", dtype="float32").module
    adapter = lowrank.attach(model, row if row in DYNAMIC else "lora", rank=rank, seed=0)
    optimizer = torch.optim.AdamW(adapter.parameters(), lr=1e-4)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1000, 30000, (batch, tokens), generator=generator)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    steps, count = 100_000, [0]
    budget: Budget | None = None

    def loss() -> torch.Tensor:
        return model(**inputs).last_hidden_state[:, 0].square().mean()

    if row in DYNAMIC:
        options = {"warmup": 0.0, "final": 0.0, "every": every, **OPTIONS.get(row, {})}
        budget = make_budget(row, adapter.forms, **options)
        budget.timetable = FastTimetable(budget.timetable)
        budget.begin(
            SimpleNamespace(
                optimizer=optimizer,
                training_loss=lambda step: loss(),
                held_out_loss=lambda index: loss(),
                measure=lambda: 0.0,
            )
        )

    def step() -> None:
        done = count[0]
        if budget is not None:
            budget.before_step(done, steps)
        value = loss()
        extra = None if budget is None else budget.penalty(done, steps)
        (value if extra is None else value + extra).backward()
        if budget is not None:
            budget.after_backward(done, steps)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        count[0] += 1
        if budget is not None:
            budget.after_step(count[0], steps)

    return step


class FastTimetable:
    """A timetable of a long run that answers at once."""

    def __init__(self, real: Any) -> None:
        self.real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def events(self, steps: int) -> Any:
        """Return the events without making a list of them all."""
        return EventRange(self.real.every)


class EventRange:
    """Every k-th step, as much of a list as budgets ask for."""

    def __init__(self, every: int) -> None:
        self.every = every

    def index(self, step: int) -> int:
        """Return the place of an event."""
        return step // self.every - 1

    def __len__(self) -> int:
        return 100_000 // self.every

    def __iter__(self) -> Any:
        return iter(range(self.every, 4000, self.every))


def cost(given: argparse.Namespace) -> None:
    """Time single steps of every row in turn and print their ratios to plain LoRA's."""
    now = {"wall": time.perf_counter, "cpu": time.process_time}[given.clock]
    rows = ["lora", *(row for row in given.rows if row in DYNAMIC)]
    sides = {row: stepper(row, given.rank, given.batch, given.tokens, PACE) for row in rows}
    plain, ordinary, event = [], {row: [] for row in rows}, {row: [] for row in rows}
    for done in range(-WARM, given.rounds):
        for row in rows if done % 2 else reversed(rows):
            begun = now()
            sides[row]()
            kept = event if (done + WARM + 1) % PACE == 0 else ordinary
            if done >= 0:
                kept[row].append(now() - begun)
                if row == "lora":
                    plain.append(now() - begun)
        print(f"round {done + 1} of {given.rounds}", file=sys.stderr, flush=True)
    print(
        f"rank {given.rank}, {given.batch} x {given.tokens} tokens, {given.rounds} rounds, {given.clock} clock, "
        f"{torch.get_num_threads()} threads\n"
    )
    print(
        f"| budget | ms a step | ordinary step | step with an event | with an event every {given.every} steps "
        "| limit |\n|---|---:|---:|---:|---:|---|"
    )
    for row in rows:
        usual = statistics.median(a / b for a, b in zip(ordinary[row], ordinary["lora"], strict=True))
        at_event = statistics.median(event[row]) / statistics.median(plain)
        mean = (usual * (given.every - 1) + at_event) / given.every
        limit = "excepted" if row in EXCEPTED else "kept" if mean <= 1.15 else "above 1.15"
        milliseconds = 1000 * statistics.median(ordinary[row])
        print(f"| {row} | {milliseconds:.0f} | {usual:.3f} | {at_event:.2f} | {mean:.3f} | {limit} |")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ledger", type=Path, default=Path("budgets.jsonl"))
    parser.add_argument("--rows", nargs="+", default=ROWS, choices=[*ROWS, "qdylora"])
    parser.add_argument("--rates", nargs="+", type=float, default=list(RATES))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--every", type=int, default=None, help="steps between events: 3; with --cost 10")
    parser.add_argument("--equal", action="store_true", help="rows again, at equal final values")
    parser.add_argument("--cost", action="store_true", help="time steps instead")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=16, help="with --cost: timed steps a row")
    given = parser.parse_args()
    given.every = given.every or (10 if given.cost else 3)
    (cost if given.cost else equalise if given.equal else sweep)(given)


if __name__ == "__main__":
    main()
