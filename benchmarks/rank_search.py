"""DyLoRA's one run against a sweep of fixed ranks: what each rank reaches on dev, and what it costs to know.

    OMP_NUM_THREADS=1 python benchmarks/rank_search.py --ledger ranks.jsonl     resumable, run by run

The setting is setting.py's. The sweep trains plain LoRA at every rank of ``--ranks``, at every rate, and takes the
dev-best rate of each rank; alpha is the same for all, so that the scale is alpha / b as in DyLoRA. DyLoRA trains once
a rate at the largest rank, drawing b at every step, and is then cut to each rank; one rate, the one with the best mean
over ranks on dev, serves all. ``--longer`` gives DyLoRA that many times the steps. The cost of a search is the CPU time
of all its runs; the table says at which ranks DyLoRA is within ``--margin`` of the sweep's dev value, and what it
saves.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from setting import Ledger, Setting, Trial, judged, run_trial

import lorank
from lorank.lowrank.budgets import make_budget
from lorank.lowrank.budgets.dylora import truncate
from lorank.ranking import loss as named_loss
from lorank.training.hooks.budget import Budgeting
from lorank.training.loop.loop import Session, train
from lorank.training.settings import AdapterSettings
from lorank.training.weights import make_weights

RANKS, RATES = (1, 2, 4, 8, 16), (1e-3, 3e-3, 1e-2)


def fixed(rank: int, rate: float, steps: int, alpha: float, seed: int) -> Trial:
    """Return plain LoRA's run at one rank."""
    return Trial(f"lora {rank}", AdapterSettings("lora", rank=rank, alpha=alpha), rate, seed, steps)


def one_run(setting: Setting, trial: Trial, ranks: Sequence[int]) -> dict[str, Any]:
    """Train DyLoRA once, cut it to every rank and judge each; return the ledger's line."""
    begun = time.process_time()
    ranker = setting.ranker()
    weights = make_weights(ranker, trial.adapter, trial.seed, None)
    budget = make_budget("dylora", weights.adapter.forms, seed=trial.seed)
    with TemporaryDirectory() as folder:
        hook = Budgeting(budget, Path(folder) / "budget.jsonl", named_loss("lambda"))
        session = Session(
            ranker,
            setting.inputs,
            weights,
            setting.lists,
            named_loss("softmax"),
            setting.settings(trial),
            seed=trial.seed,
            folder=Path(folder),
            hooks=[hook],
            held_out=setting.held_out,
        )
        train(session)
    spent = time.process_time() - begun
    by_rank = {}
    for rank in ranks:
        for form in weights.adapter.forms.values():
            truncate(form, rank)
        line = judged(setting, setting.scores(ranker, weights, ["dev", "test"]))
        by_rank[str(rank)] = {"dev": line["dev"], "test": float(np.mean(list(line["test"].values())))}
    mean = float(np.mean([row["dev"] for row in by_rank.values()]))
    return {"key": trial.key, **asdict(trial), "cpu_seconds": round(spent, 2), "dev": mean, "by_rank": by_rank}


def report(ledger: Ledger, given: argparse.Namespace) -> str:
    """Return the table and the saving."""
    best = ledger.best("dylora", given.seed)
    lines = [
        f"| rank | sweep: rate | dev | test | DyLoRA ({best['rate']:g}): dev | test | within {given.margin:g} |",
        "|---:|---:|---:|---:|---:|---:|---|",
    ]
    within = 0
    for rank in given.ranks:
        own, cut = ledger.best(f"lora {rank}", given.seed), best["by_rank"][str(rank)]
        near = cut["dev"] >= own["dev"] - given.margin
        within += near
        test = float(np.mean(list(own["test"].values())))
        lines.append(
            f"| {rank} | {own['rate']:g} | {own['dev']:.4f} | {test:.4f} | {cut['dev']:.4f} "
            f"| {cut['test']:.4f} | {'yes' if near else 'no'} |"
        )
    costs = {
        name: sum(
            line["cpu_seconds"]
            for line in ledger.lines.values()
            if line["row"].startswith(name) and line["seed"] == given.seed and "dev" in line
        )
        for name in ("lora", "dylora")
    }
    lines.append(
        f"\nAll runs of the sweep: {costs['lora']:.0f} CPU s; all of DyLoRA: {costs['dylora']:.0f} CPU s: "
        f"{costs['lora'] / costs['dylora']:.1f} to 1. DyLoRA is within {given.margin:g} of the sweep's dev "
        f"value at {within} of {len(given.ranks)} ranks."
    )
    return "\n".join(lines)


def main() -> None:
    """Run what the ledger lacks and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ledger", type=Path, default=Path("rank_search.jsonl"))
    parser.add_argument("--ranks", nargs="+", type=int, default=list(RANKS))
    parser.add_argument("--rates", nargs="+", type=float, default=list(RATES))
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--longer", type=float, default=1.0)
    parser.add_argument("--alpha", type=float, default=16.0)
    parser.add_argument("--margin", type=float, default=0.005)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    ledger, prepared = Ledger(given.ledger), []

    def setting() -> Setting:
        if not prepared:
            prepared.append(Setting(lorank.load("pydocs")))
        return prepared[0]

    largest = max(given.ranks)
    for rate in given.rates:
        steps = round(given.longer * given.steps)
        trial = Trial("dylora", AdapterSettings("dylora", rank=largest, alpha=given.alpha), rate, given.seed, steps)
        ledger.run(trial, lambda trial=trial: one_run(setting(), trial, given.ranks))
        for rank in given.ranks:
            trial = fixed(rank, rate, given.steps, given.alpha, given.seed)
            ledger.run(trial, lambda trial=trial: run_trial(setting(), trial))
    print(report(ledger, given))


if __name__ == "__main__":
    main()
