"""The learning rate that every method brings: found on a layer, checked on two collections, written to a page.

    OMP_NUM_THREADS=1 python benchmarks/rates.py --ledger runs/rates.jsonl          # resumable; layer and collections
    OMP_NUM_THREADS=1 python benchmarks/rates.py --ledger runs/rates.jsonl --table  # what is there, and the choice

**The layer.** `lorank.lowrank.layer_trial`: 30 steps on a frozen 384 x 384 layer, three seeds, every rate of a grid of
steps 1, 2 and 5. A rate is *stable* where the loss ends below its start in every seed. The layer's choice is the
smallest stable rate whose mean share of loss lowered is at least half of the best of all stable rates: the smallest,
because 30 steps favour rates that are too high for the hundreds of steps of a run.

**The collections** check that choice and change nothing. MiniLM as a bi-encoder, 30 steps at the product's settings,
judged by the weights of the last step: a planted vocabulary (`planted` of tests/tiny_collections.py), and the first
queries of lohelp with the documents that BM25 finds for them. (The first of pydocs teach nothing in 30 steps: LoRA's
best was +.004, so that no method can be told from another.) A method runs at its rate, plain LoRA at four more; what
counts is nDCG@10 gained on dev over the untuned base by the learned score alone, beside LoRA's at its own best rate.
Test is never read.
"""

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import lorank
from lorank.data.collection import Collection, Split
from lorank.errors import LorankError
from lorank.lowrank import FORMS, PRESETS, RULES
from lorank.lowrank.forms.form import ROUTED
from lorank.lowrank.layer_trial import lower_layer_loss
from lorank.lowrank.rates import default_rate
from lorank.ranking.scorers import BiEncoder
from lorank.training.dev import DevMeasure
from lorank.training.dev_sample import DevSample
from lorank.training.lists.candidates import find_candidates
from lorank.training.loop.loop import train
from lorank.training.plan import Plan, build_plan, resolve_recipe
from lorank.training.record import relative_movement, update_norms
from lorank.training.settings import AdapterSettings, ListSettings, OptimizerSettings, Recipe, RuleSettings
from tiny_collections import planted

GRID = tuple(float(f"{digit}e{power}") for power in range(-5, 2) for digit in (1, 2, 5))
SEEDS = (0, 1, 2)
SHARE = 0.5
REFERENCE = "lora"
REFERENCE_RATES = (2e-4, 5e-4, 2e-3, 5e-3)
"""The rates beside its own at which LoRA runs on a collection, for its own best."""


@dataclass(frozen=True)
class Point:
    """A method of the sweep: what `lorank train` is given."""

    name: str
    adapter: str
    rule: str = "auto"


def points() -> list[Point]:
    """Return plain LoRA first, then every method but those that give LoRA's layers other ranks and nothing else."""
    alike = {"rora-scaling", "uniform", "plop", "sensitivity-lora"}
    names = sorted({*PRESETS, *FORMS, *ROUTED} - alike - {REFERENCE})
    bare = [name for name in RULES if name not in PRESETS and name != "adamw"]
    return [Point(REFERENCE, REFERENCE), *(Point(name, name) for name in names), *(Point(r, "lora", r) for r in bare)]


class Ledger:
    """Lines of results by (problem, method, rate, seed); what is there is not run again."""

    def __init__(self, path: Path) -> None:
        self.path, self.lines = path, {}
        if path.exists():
            whole = path.read_text().rpartition("\n")[0]
            self.lines = {self.key(line): line for line in map(json.loads, whole.splitlines())}

    @staticmethod
    def key(line: Mapping[str, Any]) -> tuple[str, str, float, int]:
        """Return what a line is known by."""
        return line["problem"], line["method"], line["rate"], line["seed"]

    def run(
        self, problem: str, method: str, rate: float, seed: int, work: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """Return the line, from the ledger where it is there."""
        line = {"problem": problem, "method": method, "rate": rate, "seed": seed}
        if self.key(line) not in self.lines:
            begun = time.process_time()
            try:
                line |= work()
            except (LorankError, RuntimeError) as error:
                line["failed"] = f"{type(error).__name__}: {str(error)[:160]}"
            line["cpu"] = round(time.process_time() - begun, 2)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as file:
                file.write(json.dumps(line) + "\n")
            self.lines[self.key(line)] = line
        return self.lines[self.key(line)]

    def of(self, problem: str, method: str) -> dict[float, list[dict[str, Any]]]:
        """Return the lines of a method on a problem, by rate."""
        found: dict[float, list[dict[str, Any]]] = {}
        for line in self.lines.values():
            if (line["problem"], line["method"]) == (problem, method):
                found.setdefault(line["rate"], []).append(line)
        return dict(sorted(found.items()))


def sweep_layer(ledger: Ledger, point: Point) -> None:
    """Run the layer outwards from 5e-4: up until twice no half of the best is reached, down to the choice's edge."""

    def lowered(rate: float) -> float:
        lines = [
            ledger.run("layer", point.name, rate, seed, partial(_lower, point, rate, seed))["lowered"] for seed in SEEDS
        ]
        return mean(lines) if min(lines) > 0 else -math.inf

    middle, best, misses = GRID.index(5e-4), -math.inf, 0
    for rate in GRID[middle:]:
        value = lowered(rate)
        best = max(best, value)
        misses = misses + 1 if best > 0 and value < SHARE * best else 0
        if misses == 2:
            break
    for rate in reversed(GRID[:middle]):
        value = lowered(rate)
        best = max(best, value)
        if value < SHARE * best:
            break


def _lower(point: Point, rate: float, seed: int) -> dict[str, float]:
    try:
        value = lower_layer_loss(point.adapter, rate, seed=seed, rule=point.rule)
    except RuntimeError:  # a decomposition of what has diverged
        value = -math.inf
    return {"lowered": max(value, -1e9)}


def layer_choice(ledger: Ledger, method: str) -> tuple[float, dict[float, float]]:
    """Return the layer's choice, and the mean share lowered at every stable rate."""
    stable = {
        rate: mean(line["lowered"] for line in lines)
        for rate, lines in ledger.of("layer", method).items()
        if min(line["lowered"] for line in lines) > 0
    }
    if not stable:
        return math.nan, {}
    best = max(stable.values())
    return min(rate for rate, lowered in stable.items() if lowered >= SHARE * best), stable


def slice_of(data: Collection, train: int, dev: int, depth: int) -> Collection:
    """Return the first queries of a collection with the documents that BM25 finds for them, and the relevant ones."""
    from lorank.training.lists.retrieval import bm25_index

    index, kept, splits = bm25_index(data), set(), {}
    for name, count in (("train", train), ("dev", dev)):
        split = data.splits[name]
        queries = dict(list(split.queries.items())[:count])
        qrels = {query: split.qrels.get(query, {}) for query in queries}
        kept |= {d for row in index.search(queries, depth).values() for d in row} | {
            d for r in qrels.values() for d in r
        }
        splits[name] = Split(name, queries, qrels)
    ids = [document for document in data.document_ids if document in kept]
    texts = [data.documents[data.position[document]] for document in ids]
    return Collection(f"{data.name}-slice", ids, texts, splits)


class Task:
    """A collection on which MiniLM is tuned for 30 steps; candidates are found once."""

    def __init__(self, name: str, data: Collection, length: int, depth: int, batch_size: int = 8) -> None:
        self.name, self.data, self.length, self.depth, self.batch_size = name, data, length, depth, batch_size
        self.found = find_candidates(
            data, self.recipe(Point(REFERENCE, REFERENCE), 1e-3, 0), self.ranker(), None, _quiet
        )

    def ranker(self) -> BiEncoder:
        """Return MiniLM as it came."""
        return BiEncoder("minilm", max_length=self.length, dtype="auto")

    def recipe(self, point: Point, rate: float, seed: int) -> Recipe:
        """Return the run of a method."""
        return Recipe(
            adapter=AdapterSettings(point.adapter, calibration_batches=2),
            rule=RuleSettings(point.rule),
            lists=ListSettings(negatives=1, depth=self.depth, spare=1.0),
            training=OptimizerSettings(
                steps=30,
                batch_size=self.batch_size,
                lr=rate,
                evaluations=0,
                checkpoint_seconds=math.inf,
                evaluation_queries=8,
            ),
            seed=seed,
            judge_test=False,
        )

    def sample(self) -> DevSample:
        """Return all dev queries with the candidates that were found for them."""
        dev = self.data.dev
        found = {query: self.found.dev.get(query, {}) for query in dev.queries}
        return DevSample(found, {query: dev.qrels.get(query, {}) for query in found}, self.depth, len(dev))

    def plan(self, point: Point, rate: float, seed: int, folder: Path) -> Plan:
        """Return what a run of a method does."""
        ranker = self.ranker()
        recipe, budget = resolve_recipe(ranker, self.data, self.recipe(point, rate, seed))
        return build_plan(ranker, self.data, recipe, budget, folder, self.found, _quiet)

    def untuned(self) -> float:
        """Return nDCG@10 on dev of the learned score alone, before training."""
        with tempfile.TemporaryDirectory() as folder:
            plan = self.plan(Point(REFERENCE, REFERENCE), 1e-3, 0, Path(folder))
            return DevMeasure(plan, self.sample()).look(adapted=False).alone

    def run(self, point: Point, rate: float, seed: int) -> dict[str, Any]:
        """Train, and return nDCG@10 on dev and how far the weights moved."""
        with tempfile.TemporaryDirectory() as folder:
            plan = self.plan(point, rate, seed, Path(folder))
            dev = DevMeasure(plan, self.sample())
            measures = plan.budget is not None and "measure" in plan.budget.budget.needs
            train(
                plan.session(Path(folder), dev) if measures else replace(plan.session(Path(folder), dev), evaluate=None)
            )
            adapter = plan.weights.adapter
            moved = None if adapter is None else relative_movement(update_norms(adapter))
            return {"dev": dev.look().alone, "moved": moved}


def _quiet(what: str, done: int, total: int | None) -> None:
    """Report nothing."""


TASKS: dict[str, Callable[[], Task]] = {
    "planted": lambda: Task("planted", planted(0), 32, 150),
    "lohelp": lambda: Task("lohelp", slice_of(lorank.load("lohelp"), 480, 96, 10), 48, 10, batch_size=16),
}


def gains(ledger: Ledger, task: str, method: str) -> dict[float, float]:
    """Return nDCG@10 gained on dev over the untuned base, by rate; mean over seeds."""
    base = ledger.of(task, "untuned")
    start = base[0.0][0]["dev"] if base else math.nan
    return {
        rate: mean(line.get("dev", 0.0) for line in lines) - start for rate, lines in ledger.of(task, method).items()
    }


def table(ledger: Ledger, chosen: Sequence[Point]) -> str:
    """Return the page's table."""
    best = {task: max(gains(ledger, task, REFERENCE).values(), default=math.nan) for task in TASKS}
    _, reference = layer_choice(ledger, REFERENCE)
    lines = [
        f"LoRA's own best: {100 * max(reference.values()):.1f}% of the layer's loss; nDCG@10 gained "
        + ", ".join(f"{task} {value:+.4f}" for task, value in best.items())
        + ".\n",
        "| method | rate | stated by | layer: lowered | at 5e-4 | of its best | "
        + " | ".join(f"{task}: gained | beside LoRA's best" for task in TASKS)
        + " | moved |",
        "|---|---:|---|---:|---:|---:|" + "---:|---:|" * len(TASKS) + "---:|",
    ]
    for point in chosen:
        rate, stable = layer_choice(ledger, point.name)
        if rate != rate:
            lines.append(f"| {point.name} | | never stable |")
            continue
        top = max(stable.values())
        cells = [f"{stable.get(rate, math.nan):.1%}", f"{stable.get(5e-4, math.nan):.1%}"]
        cells.append(f"{stable.get(rate, math.nan) / top:.0%}")
        moved = None
        for task in TASKS:
            own = gains(ledger, task, point.name).get(rate)
            cells += ["", ""] if own is None else [f"{own:+.4f}", f"{own / best[task]:.0%}"]
            moved = next((line.get("moved") for line in ledger.of(task, point.name).get(rate, [])), moved)
        source = default_rate(point.adapter, rule=point.rule).source
        cells.append("" if moved is None else f"{moved:.2%}")
        lines.append(f"| {point.name} | {rate:g} | {source} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run what the ledger lacks, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ledger", type=Path, default=Path("runs/rates.jsonl"))
    parser.add_argument("--methods", nargs="+", help="default: all")
    parser.add_argument("--problems", nargs="+", default=["layer", *TASKS], choices=["layer", *TASKS])
    parser.add_argument("--table", action="store_true", help="run nothing")
    given = parser.parse_args()
    ledger = Ledger(given.ledger)
    chosen = [point for point in points() if not given.methods or point.name in (*given.methods, REFERENCE)]
    if not given.table:
        if "layer" in given.problems:
            for point in chosen:
                sweep_layer(ledger, point)
        for name in (name for name in TASKS if name in given.problems):
            task = TASKS[name]()
            ledger.run(name, "untuned", 0.0, 0, lambda task=task: {"dev": task.untuned()})
            for point in chosen:
                rate, _ = layer_choice(ledger, point.name)
                for each in (rate, *(REFERENCE_RATES if point.name == REFERENCE else ())):
                    if each == each:
                        ledger.run(name, point.name, each, 0, partial(task.run, point, each, 0))
    print(table(ledger, chosen))


if __name__ == "__main__":
    main()
