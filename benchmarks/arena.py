"""The arena: every low-rank form and start as a bi-encoder adapter of MiniLM, at matched numbers of trained values.

    OMP_NUM_THREADS=1 python benchmarks/arena.py                 # resumable; --table prints what is there
    OMP_NUM_THREADS=1 python benchmarks/arena.py --rows lora dora full --seeds 3
    OMP_NUM_THREADS=1 python benchmarks/arena.py --data ../shared/data/nfcorpus/beir --groups none --rows lora full

The setting is that of `setting.py`. Each method gets the rank whose number of trained values is nearest to that of
LoRA at rank 8 (a method whose smallest or largest rank is far from it keeps that, as the table shows). Rates are
swept breadth first, the best at an edge is followed outwards, dev chooses, test is reported.
"""

import argparse
import sys
from itertools import product
from pathlib import Path

import numpy as np
from setting import MEASURE, Ledger, Setting, Trial, at_an_edge, judged, over_seeds, run_trial, table

import lorank
from lorank import lowrank
from lorank.errors import LorankError
from lorank.lowrank import statistics_needed
from lorank.lowrank.presets import preset
from lorank.ranking.metrics import interval
from lorank.ranking.metrics.groups import group_tied_queries
from lorank.training.settings import AdapterSettings

RATES = (1e-3, 3e-3, 3e-4)
FULL_RATES = (3e-5, 1e-4, 1e-5)
REFERENCE, REFERENCE_RANK, LARGEST_RANK = "lora", 8, 384
ELSEWHERE = {
    "loku": "unlearns: it needs a set to forget",
    "mhr": "routes by task, and there is one task here",
    "palora": "mixes by preference, and none is given here",
    "taps": "chooses layers by task, and there is one task here",
}
"""Registered methods that have nothing to do in this setting, and why."""


def methods() -> list[str]:
    """Return plain LoRA, full fine-tuning, then every other form and every published start.

    Methods that are a budget or a rule over another's form have benchmarks of their own.
    """
    plain = {
        name
        for name in {*lowrank.FORMS, *lowrank.PRESETS}
        if preset(name).budget == "none" and preset(name).rule == "adamw"
    }
    return [REFERENCE, "full", *sorted(plain - {REFERENCE, *ELSEWHERE})]


def count(setting: Setting, method: str, rank: int) -> int:
    """Return the number of trained values of ``method`` at ``rank``."""
    ranker = setting.ranker()
    chosen = preset(method)
    start = "zero" if statistics_needed(method) else chosen.start
    return lowrank.attach(ranker.module, chosen.form, rank=rank, start=start).num_parameters()


def matched_rank(setting: Setting, method: str, goal: int) -> int:
    """Return the rank at which ``method`` has nearest to ``goal`` trained values, from 1 to 384.

    RandLoRA's values fall as its rank rises, for it needs fewer bases.
    """
    rank, tried = REFERENCE_RANK, {}
    falls = count(setting, method, 2 * REFERENCE_RANK) < count(setting, method, REFERENCE_RANK)
    while rank not in tried and len(tried) < 6:
        tried[rank] = count(setting, method, rank)
        share = goal / max(tried[rank], 1)
        rank = int(np.clip(round(rank / share if falls else rank * share), 1, LARGEST_RANK))
    return min(tried, key=lambda rank: (abs(tried[rank] - goal), rank))


def sweep(setting: Setting, ledger: Ledger, rows: list[str], seeds: int, steps: int, data: str) -> None:
    """Run what the ledger lacks: all rows at the first rate, at the second, ..., the edges; then more seeds."""
    goal = count(setting, REFERENCE, REFERENCE_RANK)
    ranks: dict[str, int] = {}

    def one(row: str, rate: float, seed: int) -> None:
        if row not in ranks:
            known = [line for line in ledger.lines.values() if line["row"] == row]
            ranks[row] = (
                known[0]["adapter"]["rank"]
                if known
                else REFERENCE_RANK
                if row in ("full", REFERENCE)
                else matched_rank(setting, row, goal)
            )
        trial = Trial(row, AdapterSettings(row, rank=ranks[row]), rate, seed, steps, data)
        ledger.run(trial, lambda: run_trial(setting, trial))

    for place in range(len(RATES)):
        for row in rows:
            try:
                one(row, (FULL_RATES if row == "full" else RATES)[place], 0)
            except LorankError as error:
                print(f"{row}: {error}", file=sys.stderr)
    for _ in range(2):
        for row in rows:
            rate = at_an_edge(ledger, row, 0, RATES, data=data)
            if rate is not None:
                one(row, rate, 0)
    for seed, row in product(range(1, seeds), rows):
        best = ledger.best(row, 0, data)
        if best is not None:
            one(row, best["rate"], seed)


def untrained(setting: Setting) -> str:
    """Return the lines of BM25 and of MiniLM as it came, for the foot of the table."""
    line = judged(setting, setting.scores(setting.ranker(), None, ["dev", "test"]))
    bm25 = judged(setting, {split: setting.runs[split] for split in ("dev", "test")})
    parts = []
    for name, values in (
        ("BM25", bm25["test"]),
        ("MiniLM untrained", line["test"]),
        ("MiniLM untrained, mixed with BM25", line["test_mixed"]),
    ):
        each = np.array(list(values.values()))
        low, high = interval(each, rng=np.random.default_rng(0))
        parts.append(f"{name} {each.mean():.4f} [{low:.4f}, {high:.4f}]")
    return f"Untrained, test {MEASURE}: " + "; ".join(parts) + "."


def main() -> None:
    """Run the sweep, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", default=methods(), help="methods; default: all")
    parser.add_argument("--seeds", type=int, default=1, help="further ones run at the rate that dev chose at seed 0")
    parser.add_argument(
        "--groups",
        choices=("relevant", "none"),
        default="relevant",
        help="whether queries that share a relevant document are judged as one draw",
    )
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
    qrels = data.test.qrels
    groups = group_tied_queries(qrels) if options.groups == "relevant" else {query: query for query in qrels}
    print(table(ledger, options.rows, REFERENCE, groups, data=options.data))
    if options.seeds > 1:
        print(f"\n{over_seeds(ledger, options.rows, options.data)}")
    print(f"\n{untrained(setting)}")


if __name__ == "__main__":
    main()
