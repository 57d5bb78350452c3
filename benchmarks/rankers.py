"""One model of each cell of the taxonomy of neural rankers, each under a loss of each way of learning.

    OMP_NUM_THREADS=1 python benchmarks/rankers.py --ledger rankers.jsonl     resumable, training by training
    python benchmarks/rankers.py --ledger rankers.jsonl --table               the tables of what is there

The cells are those of `lorank.ranking.scorers.taxonomy`: symmetric or not, representation or interaction, single or
multi granularity; where a trained model stands is measured on it, as how a loss learns is on its gradient. Four
learners (bi-encoder, bi-encoder with a query prefix, cross-encoder, pyramid) from MiniLM, LoRA of rank 8, are trained
once with each loss and read in the ways of all eight cells: as they are, by the best passage, and both ways.

Setting: pydocs, documents cut at 110 words, 64 tokens read at once; a training is 25 steps of 8 lists of one relevant
document and 3 of BM25's best 100, at one learning rate for all. The measure is nDCG@10 of the learned scores alone, on
BM25's best 20 of every fourth test query. Intervals and p values are over groups of queries that share a relevant
document. Seconds are CPU time of the process.
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from lorank.data.collection import Collection
from lorank.data.load import load
from lorank.ranking import loss as named_loss
from lorank.ranking.losses.core.learning import LEARNING, learning, learnings
from lorank.ranking.metrics import group_tied_queries, holm, per_query, randomization_test
from lorank.ranking.metrics.groups import grouped_interval, membership, sums
from lorank.ranking.scorers import BiEncoder, BothWays, CrossEncoder, PyramidEncoder, Ranker, TrainableRanker
from lorank.ranking.scorers.taxonomy import place
from lorank.ranking.types import Run
from lorank.training.lists.lists import CandidateLists
from lorank.training.lists.retrieval import bm25_index
from lorank.training.loop.loop import Session, train
from lorank.training.settings import AdapterSettings, OptimizerSettings
from lorank.training.weights import make_weights

MEASURE = "nDCG@10"
LOSSES = ("bce", "ranknet", "softmax")
UNTRAINED = "none"
REFERENCE = ("bi-encoder", "softmax")
LEARNERS: dict[str, tuple[type[TrainableRanker], dict[str, Any]]] = {
    "bi-encoder": (BiEncoder, {}),
    "bi-encoder, query prefix": (BiEncoder, {"query_prefix": "the question is: "}),
    "cross-encoder": (CrossEncoder, {}),
    "pyramid": (PyramidEncoder, {"summary": 32}),
}


@dataclass(frozen=True)
class Reading:
    """A row: a trained learner, whether by its best passage, and whether both ways."""

    learner: str
    passages: bool = False
    both_ways: bool = False

    def of(self, ranker: TrainableRanker) -> Ranker:
        """Return the learner's ranker read in this way."""
        ranker.long = "max" if self.passages else "truncate"
        return BothWays(ranker) if self.both_ways else ranker


READINGS = {
    "bi-encoder": Reading("bi-encoder"),
    "bi-encoder, best passage, both ways": Reading("bi-encoder", passages=True, both_ways=True),
    "cross-encoder, both ways": Reading("cross-encoder", both_ways=True),
    "pyramid, both ways": Reading("pyramid", both_ways=True),
    "bi-encoder, query prefix": Reading("bi-encoder, query prefix"),
    "bi-encoder, best passage": Reading("bi-encoder", passages=True),
    "cross-encoder": Reading("cross-encoder"),
    "pyramid": Reading("pyramid"),
}
"""One model a cell, in the order of the cells."""


@dataclass
class Setting:
    """A collection of cut documents, its candidates, and how training goes."""

    data: Collection
    base: str | Path = "minilm"
    length: int = 64
    words: int = 110
    steps: int = 25
    rate: float = 1e-3
    depth: int = 20
    every: int = 4
    train_run: Run = field(init=False)
    test_run: Run = field(init=False)
    documents: list[str] = field(init=False)

    def __post_init__(self) -> None:
        index, queries = bm25_index(self.data), list(self.data.test.queries.items())[:: self.every]
        self.train_run = index.search(self.data.train.queries, 100)
        self.test_run = index.search(dict(queries), self.depth)
        self.documents = [cut(text, self.words) for text in self.data.documents]

    def ranker(self, learner: str) -> TrainableRanker:
        """Return a learner as it starts."""
        kind, options = LEARNERS[learner]
        return kind(self.base, max_length=self.length, dtype="auto", **options)

    def trained(self, learner: str, loss: str) -> tuple[TrainableRanker, float]:
        """Return a learner after its training with a loss, merged, and the CPU seconds that it took."""
        ranker, begun = self.ranker(learner), time.process_time()
        if loss == UNTRAINED:
            return ranker, 0.0
        queries = self.data.train.queries
        at = {query: i for i, query in enumerate(queries)}
        lists = CandidateLists(self.data, self.data.train, self.train_run, at, 1, 3, 0.95, False, 0)
        inputs = ranker.prepare(list(queries.values()), self.documents)
        weights = make_weights(ranker, AdapterSettings("lora", rank=8), 0, None)
        settings = OptimizerSettings(
            steps=self.steps,
            batch_size=8,
            lr=self.rate,
            evaluations=0,
            weight_decay=0.0,
            checkpoint_seconds=float("inf"),
        )
        with TemporaryDirectory() as folder:
            train(Session(ranker, inputs, weights, lists, named_loss(loss), settings, seed=0, folder=Path(folder)))
        weights.adapter.merge()
        return ranker, time.process_time() - begun

    def judged(self, ranker: Ranker) -> dict[str, float]:
        """Return the measure of every test query that was chosen."""
        queries = [self.data.test.queries[query] for query in self.test_run]
        asked = [(i, self.data.position[d]) for i, row in enumerate(self.test_run.values()) for d in row]
        scores = iter(ranker.score_pairs(queries, self.documents, np.array(asked)).tolist())
        return self.values({query: {d: next(scores) for d in row} for query, row in self.test_run.items()})

    def values(self, run: Run) -> dict[str, float]:
        """Return the measure of every query of a run."""
        found = per_query(run, {query: self.data.test.qrels[query] for query in run}, [MEASURE])[MEASURE]
        return {query: round(value, 6) for query, value in found.items()}


def cut(text: str, words: int) -> str:
    """Return the beginning of a text, of at most so many words; its first line stays a line.

    >>> cut("a title\\nof some words", 3)
    'a title\\nof'
    """
    title, newline, body = text.partition("\n")
    left = words - len(title.split())
    return " ".join(title.split()[:words]) + newline + " ".join(body.split()[: max(left, 0)])


def measured(setting: Setting, learner: str, loss: str) -> dict[str, Any]:
    """Train a learner with a loss, and place and judge it in every way in which it is read; return the ledger's line.

    A learner that is not trained is judged as it is alone.
    """
    ranker, seconds = setting.trained(learner, loss)
    rows = {}
    for name, reading in READINGS.items():
        if reading.learner != learner or (loss == UNTRAINED and name != learner):
            continue
        read, begun = reading.of(ranker), time.process_time()
        values = setting.judged(read)
        spent = round(time.process_time() - begun, 2)
        rows[name] = {"cell": place(read).cell, "seconds": spent, "test": values}
    return {"learner": learner, "loss": loss, "seconds": round(seconds, 2), "rows": rows}


def ordered(setting: Setting, name: str) -> dict[str, Any]:
    """Return the ledger's line of an order that no learner made."""
    row = {"cell": None, "seconds": 0.0, "test": ORDERS[name](setting)}
    return {"learner": name, "loss": UNTRAINED, "seconds": 0.0, "rows": {name: row}}


def at_random(setting: Setting, times: int = 50) -> dict[str, float]:
    """Return each query's mean over random orders of its candidates."""
    rng = np.random.default_rng(0)
    drawn = [
        setting.values(
            {
                query: dict(zip(row, rng.random(len(row)).tolist(), strict=True))
                for query, row in setting.test_run.items()
            }
        )
        for _ in range(times)
    ]
    return {query: round(float(np.mean([values[query] for values in drawn])), 6) for query in setting.test_run}


def best(setting: Setting) -> dict[str, float]:
    """Return what each query would have if its relevant candidates came first."""
    qrels = setting.data.test.qrels
    return setting.values(
        {query: {d: float(qrels[query].get(d, 0)) for d in row} for query, row in setting.test_run.items()}
    )


ORDERS = {"bm25": lambda setting: setting.values(setting.test_run), "random order": at_random, "best order": best}
"""What rerankings are held against; no learner made them."""

Lines = dict[tuple[str, str], dict[str, Any]]


def read_ledger(path: Path) -> Lines:
    """Return the whole lines of a ledger by learner and loss."""
    whole = path.read_text().rpartition("\n")[0] if path.exists() else ""
    return {(line["learner"], line["loss"]): line for line in map(json.loads, whole.splitlines())}


def run(path: Path, setting: Setting) -> None:
    """Do every training that the ledger lacks."""
    done = read_ledger(path)
    todo = [
        *((name, UNTRAINED) for name in (*ORDERS, "bi-encoder")),
        *((learner, loss) for loss in reversed(LOSSES) for learner in LEARNERS),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    for learner, loss in todo:
        if (learner, loss) in done:
            continue
        line = ordered(setting, learner) if learner in ORDERS else measured(setting, learner, loss)
        with path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        told = ", ".join(
            f"{name} {np.mean(list(row['test'].values())):.4f} ({row['seconds']:.0f} s)"
            for name, row in line["rows"].items()
        )
        print(
            f"{time.strftime('%H:%M:%S')} {learner}, {loss}, trained {line['seconds']:.0f} s: {told}",
            file=sys.stderr,
            flush=True,
        )


def table(lines: Lines, groups: dict[str, str]) -> str:
    """Return the Markdown table: a row for each model of a cell and each loss, against ``REFERENCE``."""
    found = {
        (name, loss): (line["seconds"], row) for (_, loss), line in lines.items() for name, row in line["rows"].items()
    }
    reference = found[REFERENCE][1]["test"]
    queries, rng = sorted(reference), np.random.default_rng(0)
    member = membership(groups, queries)
    values = {key: np.array([row["test"][query] for query in queries]) for key, (_, row) in found.items()}
    gaps = {key: own - values[REFERENCE] for key, own in values.items() if key != REFERENCE}
    tested = [key for key in gaps if key[0] not in ORDERS]
    p = [float(randomization_test(sums(gaps[key][:, None], member)[:, 0], rng=rng)) for key in tested]
    adjusted = dict(zip(tested, holm(p), strict=True))
    head = (
        "symmetry",
        "focus",
        "granularity",
        "model",
        "loss",
        "learning",
        f"{MEASURE} [95%]",
        f"against {', '.join(REFERENCE)} [95%]",
        "Holm p",
        "CPU s: training",
        "scoring",
    )
    out = [head, ["---"] * 6 + ["---:"] * 5]
    order = [
        *((name, loss) for name in READINGS for loss in LOSSES),
        *((name, UNTRAINED) for name in ("bi-encoder", *ORDERS)),
    ]
    for key in (key for key in order if key in found):
        seconds, row = found[key]
        trained = key[1] != UNTRAINED
        gap = "" if key == REFERENCE else with_interval(gaps[key], member, rng, "+.4f")
        out.append(
            [
                *(row["cell"] or ("", "", "")),
                key[0],
                key[1],
                learning(key[1]) if trained else "",
                with_interval(values[key], member, rng, ".4f"),
                gap,
                f"{adjusted[key]:.3f}" if key in adjusted else "",
                f"{seconds:.0f}" if trained else "",
                f"{row['seconds']:.0f}" if row["cell"] else "",
            ]
        )
    return "\n".join("| " + " | ".join(cells) + " |" for cells in out)


def loss_table() -> str:
    """Return the Markdown table of every registered loss by how it learns."""
    found = learnings()
    rows = [
        ("learning", "losses"),
        ("---", "---"),
        *((way, ", ".join(name for name in found if found[name] == way)) for way in LEARNING),
    ]
    return "\n".join(f"| {way} | {names} |" for way, names in rows)


def with_interval(values: np.ndarray, member: np.ndarray, rng: np.random.Generator, form: str) -> str:
    """Return the mean of ``values`` and its 95% interval over groups."""
    low, high = grouped_interval(values, member, rng=rng)
    return f"{values.mean():{form}} [{low:.4f}, {high:.4f}]"


def main() -> None:
    """Run what is missing, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ledger", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--every", type=int, default=4, help="one test query in so many is judged")
    parser.add_argument("--table", action="store_true", help="only print the tables of what is there")
    given = parser.parse_args()
    torch.set_num_threads(1)
    data = load("pydocs")
    if not given.table:
        run(given.ledger, Setting(data, steps=given.steps, every=given.every))
    print(table(read_ledger(given.ledger), group_tied_queries(data.test.qrels)))
    print(f"\n{loss_table()}")


if __name__ == "__main__":
    main()
