"""The setting that arena.py, budgets.py, rank_search.py and rules.py share: short, fair, resumable runs.

MiniLM as a bi-encoder on pydocs. Texts are tokenised once for all runs and cut at 48 tokens; a run is 30 steps of
16 lists (one relevant document, one drawn from BM25's best 100, and the other lists' documents), softmax loss, bf16
products where the machine has them. Every run is judged by the same reranking of BM25's best 30: dev chooses the
learning rate, test is reported. Nothing is chosen on test.

Each run adds one line to a ledger (JSON lines); a line that is there is not run again, so a killed sweep goes on
where it stopped. Cost is the process's own CPU time, which other work on the machine changes little.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from lorank.data.collection import Collection
from lorank.errors import LorankError
from lorank.lowrank import select_targets, statistics_needed
from lorank.ranking import loss as named_loss
from lorank.ranking.consensus.fusion import standardise_run
from lorank.ranking.metrics import holm, mean_of, per_query, randomization_test
from lorank.ranking.metrics.groups import Groups, grouped_interval, membership, sums
from lorank.ranking.scorers import BiEncoder
from lorank.ranking.scorers.tokens import Span
from lorank.ranking.types import Run
from lorank.training.hooks.hook import Hook
from lorank.training.lists.calibration_pass import calibrate
from lorank.training.lists.lists import CandidateLists
from lorank.training.lists.retrieval import bm25_index
from lorank.training.loop.loop import MakeOptimizer, Session, adamw, train
from lorank.training.settings import AdapterSettings, FirstStageSettings, OptimizerSettings
from lorank.training.weights import WHOLE, AdapterWeights, WholeWeights, make_weights
from lorank.tuned.mix import choose_mix, mix_run
from lorank.tuned.ranker import merged

MEASURE = "nDCG@10"
CANDIDATES, JUDGED_DEPTH = 100, 30
LORA_PARAMETERS = 8
"""The rank of plain LoRA whose number of trained values the others are matched to."""


@dataclass(frozen=True)
class Trial:
    """One run: a row of the table at one learning rate and seed."""

    row: str
    adapter: AdapterSettings
    rate: float
    seed: int = 0
    steps: int = 30
    data: str = "pydocs"

    @property
    def key(self) -> str:
        """What the ledger knows the run by."""
        return json.dumps([self.row, self.data, self.steps, self.rate, self.seed])


Wiring = tuple[Sequence[Hook], MakeOptimizer]
Wire = Callable[[AdapterWeights | WholeWeights, "Setting", Trial], Wiring]


def plain(weights: AdapterWeights | WholeWeights, setting: "Setting", trial: Trial) -> Wiring:
    """Return no hooks and AdamW."""
    return (), adamw


@dataclass
class Setting:
    """A collection, its candidates and its texts, prepared once."""

    data: Collection
    length: int = 48
    batch_size: int = 16
    lists: CandidateLists = field(init=False)
    held_out: CandidateLists = field(init=False)
    inputs: Any = field(init=False)
    runs: dict[str, Run] = field(init=False)

    def __post_init__(self) -> None:
        data, index = self.data, bm25_index(self.data)
        queries = {**data.train.queries, **data.dev.queries, **data.test.queries}
        self.place = {query: i for i, query in enumerate(queries)}
        self.runs = {
            "train": index.search(data.train.queries, CANDIDATES),
            "dev": index.search(data.dev.queries, JUDGED_DEPTH),
            "test": index.search(data.test.queries, JUDGED_DEPTH),
        }
        self.inputs = self.ranker().prepare(list(queries.values()), data.documents)
        self.lists = self._lists(data.train, self.runs["train"])
        self.held_out = self._lists(data.dev, self.runs["dev"])

    def ranker(self) -> BiEncoder:
        """Return MiniLM anew, as it came."""
        return BiEncoder("minilm", max_length=self.length, dtype="auto")

    def _lists(self, split: Any, run: Run) -> CandidateLists:
        return CandidateLists(self.data, split, run, self.place, 1, 1, 0.95, True, 0)

    def settings(self, trial: Trial) -> OptimizerSettings:
        """Return the loop's settings for a run: no evaluation on the way, no checkpoint."""
        return OptimizerSettings(
            steps=trial.steps,
            batch_size=self.batch_size,
            lr=trial.rate,
            evaluations=0,
            checkpoint_seconds=float("inf"),
            warmup=0.1,
            weight_decay=0.0,
        )

    def statistics(self, ranker: BiEncoder, trial: Trial, kinds: frozenset[str]) -> dict[str, Any] | None:
        """Return what one calibration pass sees, where ``kinds`` asks for something."""
        if not kinds:
            return None
        layers = select_targets(ranker.module, trial.adapter.targets, trial.adapter.exclude)
        return calibrate(
            ranker,
            self.inputs,
            self.lists,
            named_loss("softmax"),
            self.settings(trial),
            layers,
            kinds,
            batches=4,
            seed=trial.seed,
        )

    def scores(
        self, ranker: BiEncoder, weights: AdapterWeights | WholeWeights | None, splits: Sequence[str]
    ) -> dict[str, Run]:
        """Return the learned scores of the candidates of ``splits``; each document is encoded once."""
        wanted = sorted({self.data.position[d] for split in splits for row in self.runs[split].values() for d in row})
        asked = np.array([self.place[q] for split in splits for q in self.runs[split]])
        with merged(None if weights is None else weights.adapter):
            documents = self._encode(ranker, self.inputs.documents, np.array(wanted))
            queries = self._encode(ranker, self.inputs.queries, asked)
        at = {document: i for i, document in enumerate(wanted)}
        vector = dict(zip(asked.tolist(), queries, strict=True))
        return {
            split: {
                q: {d: float(documents[at[self.data.position[d]]] @ vector[self.place[q]]) for d in row}
                for q, row in self.runs[split].items()
            }
            for split in splits
        }

    def _encode(self, ranker: BiEncoder, table: Any, texts: np.ndarray) -> np.ndarray:
        start, length = ranker.template.cut(table.lengths[texts], ranker.room)
        return ranker.encode_spans(table, Span(texts, start, length))

    def dev(self, ranker: BiEncoder, weights: AdapterWeights | WholeWeights, queries: int = 60) -> float:
        """Return dev nDCG@10 of the weights as they stand over the first ``queries`` dev queries."""
        chosen = dict(list(self.runs["dev"].items())[:queries])
        whole, self.runs["dev"] = self.runs["dev"], chosen
        try:
            learned = self.scores(ranker, weights, ["dev"])["dev"]
        finally:
            self.runs["dev"] = whole
        return mean_of(learned, {q: self.data.dev.qrels.get(q, {}) for q in chosen}, MEASURE)


def run_trial(
    setting: Setting, trial: Trial, wire: Wire = plain, *, ranks: dict[str, int] | None = None
) -> dict[str, Any]:
    """Train one run and judge it on dev and test; return the ledger's line."""
    ranker = setting.ranker()
    kinds = frozenset() if trial.adapter.name in WHOLE else statistics_needed(trial.adapter.name, trial.adapter.start)
    begun = time.process_time()
    statistics = setting.statistics(ranker, trial, kinds)
    weights = make_weights(ranker, trial.adapter, trial.seed, None, statistics, ranks)
    hooks, make_optimizer = wire(weights, setting, trial)
    lists = replace(setting.lists, seed=trial.seed)
    with TemporaryDirectory() as folder:
        session = Session(
            ranker,
            setting.inputs,
            weights,
            lists,
            named_loss("softmax"),
            setting.settings(trial),
            seed=trial.seed,
            folder=Path(folder),
            hooks=hooks,
            held_out=setting.held_out,
            make_optimizer=make_optimizer,
            evaluate=None,
        )
        train(session)
    spent = time.process_time() - begun
    line = judged(setting, setting.scores(ranker, weights, ["dev", "test"]))
    parameters = sum(p.numel() for group in weights.parameter_groups() for p in group["params"])
    layers = {} if weights.adapter is None else {path: form.rank for path, form in weights.adapter.forms.items()}
    return {
        "key": trial.key,
        **asdict(trial),
        "parameters": parameters,
        "cpu_seconds": round(spent, 2),
        "ranks": layers,
        **line,
    }


def judged(setting: Setting, learned: dict[str, Run]) -> dict[str, Any]:
    """Return dev and test values of the learned scores alone, and mixed with BM25's by dev's choice."""
    qrels = {split: setting.data.splits[split].qrels for split in ("dev", "test")}
    first = {split: standardise_run(setting.runs[split]) for split in ("dev", "test")}
    mix = choose_mix(
        first["dev"], learned["dev"], FirstStageSettings().grid, lambda run: mean_of(run, qrels["dev"], MEASURE)
    )
    mixed = {split: mix_run(mix, first[split], learned[split]) for split in ("dev", "test")}
    test = {"test": learned["test"], "test_mixed": mixed["test"]}
    return {
        "dev": mean_of(learned["dev"], qrels["dev"], MEASURE),
        "dev_mixed": mean_of(mixed["dev"], qrels["dev"], MEASURE),
        "mix": mix.weight,
        **{
            name: {q: round(v, 6) for q, v in per_query(run, qrels["test"], [MEASURE])[MEASURE].items()}
            for name, run in test.items()
        },
    }


@dataclass
class Ledger:
    """The lines of all runs that are done."""

    path: Path

    def __post_init__(self) -> None:
        self.lines: dict[str, dict[str, Any]] = {}
        if self.path.exists():
            whole = self.path.read_text().rpartition("\n")[0]
            self.lines = {line["key"]: line for line in map(json.loads, whole.splitlines())}

    def run(self, trial: Trial, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return the run's line, from the ledger where it is there."""
        if trial.key not in self.lines:
            begun = time.monotonic()
            try:
                line = work()
            except (LorankError, torch.linalg.LinAlgError) as error:
                line = {"key": trial.key, **asdict(trial), "failed": str(error)}
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as file:
                file.write(json.dumps(line) + "\n")
            self.lines[trial.key] = line
            told = line.get("failed") or f"dev {line['dev']:.4f}"
            print(
                f"{time.strftime('%H:%M:%S')} {trial.row} rate {trial.rate:g} seed {trial.seed}: {told} "
                f"({time.monotonic() - begun:.0f} s)",
                file=sys.stderr,
                flush=True,
            )
        return self.lines[trial.key]

    def best(self, row: str, seed: int, data: str = "pydocs") -> dict[str, Any] | None:
        """Return the row's line of the rate with the best dev value."""
        done = [
            line
            for line in self.lines.values()
            if line["row"] == row and line["seed"] == seed and line["data"] == data and "dev" in line
        ]
        return max(done, key=lambda line: line["dev"], default=None)


def at_an_edge(
    ledger: Ledger, row: str, seed: int, rates: Sequence[float], factor: float = 3.0, data: str = "pydocs"
) -> float | None:
    """Return the rate beyond the edge at which dev is best, None where it is inside or one more was tried."""
    best = ledger.best(row, seed, data)
    if best is None:
        return None
    rate = best["rate"]
    tried = sorted(
        {
            line["rate"]
            for line in ledger.lines.values()
            if (line["row"], line["seed"], line["data"]) == (row, seed, data)
        }
    )
    if len(tried) > len(rates) + 1:
        return None
    return rate * factor if rate == tried[-1] else rate / factor if rate == tried[0] else None


def table(
    ledger: Ledger, rows: Sequence[str], reference: str, groups: Groups, seed: int = 0, data: str = "pydocs"
) -> str:
    """Return a Markdown table: each row at its dev-chosen rate, against ``reference`` over the test queries.

    Intervals and p values are taken over ``groups`` of queries (`lorank.ranking.metrics.groups`), for queries that
    share a relevant document are won or lost together; *a group once* is the mean over groups of their means.
    """
    best = {row: line for row in rows if (line := ledger.best(row, seed, data)) is not None}
    rng = np.random.default_rng(0)
    queries = sorted(best[reference]["test"])
    member = membership(groups, queries)
    values = {row: np.array([line["test"][q] for q in queries]) for row, line in best.items()}
    others = [row for row in best if row != reference]
    gaps = {row: values[row] - values[reference] for row in others}
    p = holm([float(randomization_test(sums(gaps[row][:, None], member)[:, 0], rng=rng)) for row in others])
    adjusted = dict(zip(others, p, strict=True))
    lines = [
        f"| row | rank | trained | rate | dev | test {MEASURE} [95%] | a group once | mixed | against {reference} "
        "[95%] | Holm p | CPU s |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in sorted(best, key=lambda row: -values[row].mean()):
        line = best[row]
        gap = "" if row == reference else f"{gaps[row].mean():+.4f} {_interval(gaps[row], member, rng)}"
        rank = line["adapter"]["rank"] if line["adapter"]["name"] not in WHOLE else "full"
        once = float((sums(values[row][:, None], member)[:, 0] / np.bincount(member)).mean())
        lines.append(
            f"| {row} | {rank} | {line['parameters']:,} | {line['rate']:g} | {line['dev']:.4f} | "
            f"{values[row].mean():.4f} {_interval(values[row], member, rng)} | {once:.4f} | "
            f"{np.mean(list(line['test_mixed'].values())):.4f} | {gap} | "
            f"{'' if row == reference else f'{adjusted[row]:.3f}'} | {line['cpu_seconds']:.0f} |"
        )
    return "\n".join(lines)


def _interval(values: np.ndarray, member: np.ndarray, rng: np.random.Generator) -> str:
    return "[{:.4f}, {:.4f}]".format(*grouped_interval(values, member, rng=rng))


def over_seeds(ledger: Ledger, rows: Sequence[str], data: str = "pydocs") -> str:
    """Return each row's test mean and spread over seeds, at the rate that dev chose at seed 0."""
    lines = [
        "| row | rate | seeds | dev, mean of seeds | test, mean of seeds | from | to |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        best = ledger.best(row, 0, data)
        own = (
            []
            if best is None
            else [
                line
                for line in ledger.lines.values()
                if "dev" in line and (line["row"], line["rate"], line["data"]) == (row, best["rate"], data)
            ]
        )
        if len(own) > 1:
            tests = [float(np.mean(list(line["test"].values()))) for line in own]
            lines.append(
                f"| {row} | {best['rate']:g} | {len(own)} | {np.mean([line['dev'] for line in own]):.4f} "
                f"| {np.mean(tests):.4f} | {min(tests):.4f} | {max(tests):.4f} |"
            )
    return "\n".join(lines)
