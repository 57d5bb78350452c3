"""The arena: every low-rank form and start as a bi-encoder adapter of MiniLM, at matched numbers of trained values.

    OMP_NUM_THREADS=1 python benchmarks/arena.py                 # resumable; --table prints what is there
    OMP_NUM_THREADS=1 python benchmarks/arena.py --rows lora dora full --seeds 0 1 2
    OMP_NUM_THREADS=1 python benchmarks/arena.py --data ../shared/data/nfcorpus/beir --rows lora full

The setting is that of `setting.py`. Each method gets the rank whose number of trained values is nearest to that of
LoRA at rank 8 (a method whose smallest or largest rank is far from it keeps that, as the table shows). Rates are
swept breadth first, the best at an edge is followed outwards, dev chooses, test is reported.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from setting import MEASURE, Ledger, Setting, Trial, at_an_edge, judged, run_trial, table

import lorank
from lorank import lowrank
from lorank.errors import LorankError
from lorank.lowrank import statistics_needed
from lorank.lowrank.presets import preset
from lorank.ranking.metrics import interval
from lorank.training.settings import AdapterSettings

RATES = (1e-3, 3e-3, 3e-4)
FULL_RATES = (3e-5, 1e-4, 1e-5)
REFERENCE, REFERENCE_RANK, LARGEST_RANK = "lora", 8, 384
ELSEWHERE = {
    "loku": "unlearns: it needs a set to forget",
    "mhr": "routes by task, and there is one task here", "palora": "mixes by preference, and none is given here",
    "taps": "chooses layers by task, and there is one task here",
}
"""Registered methods that have nothing to do in this setting, and why."""


def methods() -> list[str]:
    """Return plain LoRA, full fine-tuning, then every other form and every published start.

    Methods that are a budget or a rule over another's form have benchmarks of their own.
    """
    plain = {name for name in {*lowrank.FORMS, *lowrank.PRESETS}
             if preset(name).budget == "none" and preset(name).rule == "adamw"}
    return [REFERENCE, "full", *sorted(plain - {REFERENCE, *ELSEWHERE})]


def count(setting: Setting, method: str, rank: int) -> int:
    """Return the number of trained values of ``method`` at ``rank``."""
    ranker = setting.ranker()
    chosen = preset(method)
    start = "zero" if statistics_needed(method) else chosen.start
    return lowrank.attach(ranker.module, chosen.form, rank=rank, start=start).num_parameters()


def matched_rank(setting: Setting, method: str, goal: int) -> int:
    """Return the rank at which ``method`` has nearest to ``goal`` trained values, from 1 to 384."""
    rank, tried = REFERENCE_RANK, {}
    while rank not in tried and len(tried) < 6:
        tried[rank] = count(setting, method, rank)
        rank = int(np.clip(round(rank * goal / max(tried[rank], 1)), 1, LARGEST_RANK))
    return min(tried, key=lambda rank: (abs(tried[rank] - goal), rank))


def sweep(setting: Setting, ledger: Ledger, rows: list[str], seeds: list[int], steps: int, data: str) -> None:
    """Run what the ledger lacks: all rows at the first rate, then at the second, ..., then the edges."""
    goal = count(setting, REFERENCE, REFERENCE_RANK)
    ranks: dict[str, int] = {}

    def one(row: str, rate: float, seed: int) -> None:
        if row not in ranks:
            known = [line for line in ledger.lines.values() if line["row"] == row]
            ranks[row] = (known[0]["adapter"]["rank"] if known else REFERENCE_RANK if row in ("full", REFERENCE)
                          else matched_rank(setting, row, goal))
        trial = Trial(row, AdapterSettings(row, rank=ranks[row]), rate, seed, steps, data)
        ledger.run(trial, lambda: run_trial(setting, trial))

    for seed in seeds:
        for place in range(len(RATES)):
            for row in rows:
                try:
                    one(row, (FULL_RATES if row == "full" else RATES)[place], seed)
                except LorankError as error:
                    print(f"{row}: {error}", file=sys.stderr)
        for _ in range(2):
            for row in rows:
                rate = at_an_edge(ledger, row, seed, RATES)
                if rate is not None:
                    one(row, rate, seed)


def untrained(setting: Setting) -> str:
    """Return the lines of BM25 and of MiniLM as it came, for the foot of the table."""
    line = judged(setting, setting.scores(setting.ranker(), None, ["dev", "test"]))
    bm25 = judged(setting, {split: setting.runs[split] for split in ("dev", "test")})
    parts = []
    for name, values in (("BM25", bm25["test"]), ("MiniLM untrained", line["test"]),
                         ("MiniLM untrained, mixed with BM25", line["test_mixed"])):
        each = np.array(list(values.values()))
        low, high = interval(each, rng=np.random.default_rng(0))
        parts.append(f"{name} {each.mean():.4f} [{low:.4f}, {high:.4f}]")
    return f"Untrained, test {MEASURE}: " + "; ".join(parts) + "."


def main() -> None:
    """Run the sweep, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", default=methods(), help="methods; default: all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--data", default="pydocs")
    parser.add_argument("--ledger", type=Path, default=Path("runs/arena.jsonl"))
    parser.add_argument("--table", action="store_true", help="only print what the ledger has")
    options = parser.parse_args()
    ledger = Ledger(options.ledger)
    data = lorank.load(options.data)
    setting = Setting(data)
    if not options.table:
        sweep(setting, ledger, options.rows, options.seeds, options.steps, options.data)
    for seed in options.seeds:
        print(f"\nSeed {seed}\n\n{table(ledger, options.rows, REFERENCE, seed)}")
    print(f"\n{untrained(setting)}")


if __name__ == "__main__":
    main()
