"""A realistic run folder, made by formulas and a seeded generator, small or as large as a test wants."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lorank.ranking.metrics.evaluation import Comparison, Evaluation, SystemResult

HOSTILE_QUERY = "<script>document.title='taken'</script> sort & \"merge\" <img src=x onerror=alert(1)>"
HOSTILE_TITLE = "</details><script>window.taken = true</script> <b>bold</b>"

LADDER = {
    "bm25": ("BM25 with stop words removed and stemming", 0.00, {"score_seconds": 1.4}),
    "minilm": ("The packaged MiniLM as it comes", -0.03, {"score_seconds": 9.8, "bytes": 90_900_000}),
    "bm25 + minilm": ("Their fusion, weight chosen on dev", 0.055, {"score_seconds": 11.2}),
    "minilm, lora r=16": (
        "Low-rank adaptation on the training queries",
        0.04,
        {"train_seconds": 243.0, "score_seconds": 9.9, "trained_parameters": 589_824, "bytes": 2_372_000},
    ),
    "bm25 + minilm, lora r=16": (
        "The adapted model over the first stage, weight chosen on dev",
        0.085,
        {"train_seconds": 243.0, "score_seconds": 11.3, "trained_parameters": 589_824, "bytes": 2_372_000},
    ),
}
QUERIES = [
    "sort a dict by value",
    "read a csv file line by line",
    "difference between list and tuple",
    "how to copy an object deeply",
    "parse a date string",
    "run a subprocess and capture its output",
    "merge two dictionaries",
    "what does yield from do",
]
WORDS = [
    "mapping",
    "sequence",
    "iterator",
    "module",
    "returns",
    "object",
    "value",
    "keyword",
    "argument",
    "default",
    "raised",
    "when",
    "the",
    "method",
    "called",
    "with",
    "key",
    "function",
    "order",
    "stable",
    "instance",
]


def make_evaluation(queries: int = 300, seed: int = 0, p_holm: float = 0.004) -> Evaluation:
    """Five systems whose per-query values share a difficulty and differ by a shift and noise."""
    draw = np.random.default_rng(seed)
    ids = [f"q{k:04d}" for k in range(queries)]
    hardness = draw.normal(0.48, 0.3, queries)
    measures = ["nDCG@10", "RR@10"]
    systems = {}
    for name, (description, shift, cost) in LADDER.items():
        kept = draw.random(queries) < 0.35
        noise = np.where(kept, 0, draw.normal(shift, 0.16, queries))
        values = {m: np.clip(hardness + noise + bonus, 0, 1) for m, bonus in zip(measures, (0.0, 0.05))}
        half = {m: 1.96 * v.std() / np.sqrt(queries) for m, v in values.items()}
        systems[name] = SystemResult(
            mean={m: float(v.mean()) for m, v in values.items()},
            interval={m: (float(v.mean() - half[m]), float(v.mean() + half[m])) for m, v in values.items()},
            values={m: dict(zip(ids, map(float, v))) for m, v in values.items()},
            judged=0.31 + shift,
            description=description,
            cost=cost,
        )
    names = list(systems)
    pairs = [(names[-1], other) for other in names[:-1]] + [(names[2], names[0])]
    comparisons = [compare(systems, a, b, m, p_holm) for m in measures for a, b in pairs]
    ceiling = {name: 0.87 + 0.01 * k for k, name in enumerate(names)}
    settings = {"seed": 7, "resamples": 10_000, "confidence": 0.95, "gain": "linear", "unjudged": "not relevant"}
    return Evaluation("pydocs", "test", measures, queries, systems, comparisons, ceiling, settings)


def compare(systems: dict[str, SystemResult], a: str, b: str, measure: str, p_holm: float) -> Comparison:
    """The paired difference of two made systems, with the p that the test asks for."""
    difference = np.array(
        [systems[a].values[measure][q] - systems[b].values[measure][q] for q in systems[a].values[measure]]
    )
    half = 1.96 * difference.std() / np.sqrt(len(difference))
    mean = float(difference.mean())
    return Comparison(
        a,
        b,
        measure,
        mean,
        (mean - half, mean + half),
        p_holm / 4,
        p_holm,
        int((difference > 0).sum()),
        int((difference == 0).sum()),
        int((difference < 0).sum()),
    )


def make_metrics(steps: int = 400, every: int = 50) -> list[dict[str, Any]]:
    """A loss that falls like 1/sqrt(step) with noise, and a dev measure that peaks three quarters of the way."""
    draw = np.random.default_rng(1)
    rows: list[dict[str, Any]] = []
    for step in range(1, steps + 1):
        loss = 2.8 / (1 + step / 60) ** 0.5 + 0.08 * float(draw.normal())
        rows.append(
            {
                "step": step,
                "epoch": step / 200,
                "loss": loss,
                "lr": 5e-4 * (1 - step / steps),
                "seconds": 0.6 * step,
                "examples": 16 * step,
            }
        )
        if step % every == 0:
            dev = 0.46 + 0.07 * (1 - ((step - 0.75 * steps) / (0.75 * steps)) ** 2)
            rows.append({"step": step, "epoch": step / 200, "seconds": 0.6 * step, "dev": {"nDCG@10": dev}})
    return rows


def make_run(blocks: int = 6) -> dict[str, Any]:
    """Everything a run says of itself."""
    kinds = {
        "attention.self.query": (384, 384),
        "attention.self.key": (384, 384),
        "attention.self.value": (384, 384),
        "attention.output.dense": (384, 384),
        "intermediate.dense": (1536, 384),
        "output.dense": (384, 1536),
    }
    layers = [
        {
            "path": f"encoder.layer.{b}.{kind}",
            "rank": 0 if (b, k) == (0, 1) else 4 + 2 * ((b * 5 + k * 3) % 9),
            "shape": list(shape),
        }
        for b in range(blocks)
        for k, (kind, shape) in enumerate(kinds.items())
    ]
    curve = [(w / 10, 0.548 + 0.028 * (1 - ((w - 12) / 12) ** 2)) for w in range(0, 31, 2)]
    return {
        "lorank": "0.1.0",
        "command": "lorank demo --out runs/demo",
        "created": "2026-11-21T05:40:00+00:00",
        "seed": 7,
        "machine": {
            "cpu": "Example Processor 2.4 GHz",
            "cores": 2,
            "memory_gb": 15.6,
            "python": "3.11.9",
            "torch": "2.13.0",
            "system": "Linux 6.1",
        },
        "settings": {
            "adapter": {"name": "lora", "rank": 16, "alpha": 32, "targets": ["query", "key", "value"]},
            "loss": {"name": "lambda", "k": 10},
            "training": {"lr": 5e-4, "epochs": 2, "batch": 16},
        },
        "adapter": {
            "name": "lora",
            "rank": 16,
            "alpha": 32,
            "trained_parameters": 589_824,
            "total_parameters": 23_303_040,
            "bytes": 2_372_000,
            "layers": layers,
        },
        "collection": {
            "name": "pydocs",
            "documents": 11_934,
            "queries": {"train": 2200, "dev": 300, "test": 300},
            "card": "# pydocs\n\nSections of the Python documentation.\n\nLicence: PSF-2.0.",
        },
        "packages": {"torch": "2.13.0", "transformers": "5.23.0", "numpy": "2.4.0"},
        "mix": {
            "first_stage": "bm25 + minilm",
            "first_stage_weight": 1.0,
            "weight": 0.37,
            "dev_curve": [*curve, ["inf", 0.531]],
        },
    }


def make_budget(blocks: int = 6, events: int = 21) -> list[dict[str, Any]]:
    """Ranks of all layers that fall from 12 each to where importance by block and kind leaves them."""
    paths = [layer["path"] for layer in make_run(blocks)["adapter"]["layers"]]
    ends = {path: 2 * ((7 * k) % 9) for k, path in enumerate(paths)}
    rows = []
    for event in range(events):
        passed = 1 - (1 - event / (events - 1)) ** 3
        ranks = {path: round(12 + (ends[path] - 12) * passed) for path in paths}
        rows.append({"step": 14 * event, "total": sum(ranks.values()), "ranks": ranks})
    return rows


def make_examples(count: int = 6) -> list[dict[str, Any]]:
    """Queries whose relevant document climbs; the first one carries markup that must stay text."""
    draw = np.random.default_rng(2)

    def document(k: int, place: int) -> dict[str, Any]:
        title = HOSTILE_TITLE if k == 3 else f"library · {WORDS[k % len(WORDS)]} objects"
        return {
            "id": f"library/doc{k}",
            "title": title,
            "snippet": " ".join(draw.choice(WORDS, 45)),
            "score": 9.5 - place,
            "relevance": {3: 2, 5: 1, 7: None}.get(k, 0),
        }

    def listed(system: str, order: list[int]) -> dict[str, Any]:
        return {"system": system, "documents": [document(k, place) for place, k in enumerate(order)]}

    def example(n: int) -> dict[str, Any]:
        before, after = [0, 1, 2, 4, 3, 6, 5, 7], [3, 0, 5, 1, 2, 8, 4, 7]
        return {
            "query_id": f"q{n:04d}",
            "query": HOSTILE_QUERY if n == 0 else QUERIES[n % len(QUERIES)],
            "before": listed("bm25 + minilm", before),
            "after": listed("bm25 + minilm, lora r=16", after),
            "change": 0.5 - 0.2 * n,
        }

    return [example(n) for n in range(count)]


@dataclass(frozen=True)
class RunFolderWriter:
    """Writes the files of a run folder; a part given as None is left out."""

    folder: Path

    def __call__(
        self,
        evaluation: Evaluation | None = None,
        metrics: list[dict] | None = None,
        run: dict | None = None,
        examples: list[dict] | None = None,
        budget: list[dict] | None = None,
    ) -> Path:
        """Write what is given and return the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        parts = {"results.json": evaluation and evaluation.to_dict(), "run.json": run, "examples.json": examples}
        for name, part in parts.items():
            if part is not None:
                (self.folder / name).write_text(json.dumps(part), encoding="utf-8")
        if metrics is not None:
            (self.folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in metrics))
        if budget is not None:
            (self.folder / "budget.jsonl").write_text("".join(json.dumps(row) + "\n" for row in budget))
        return self.folder


def write_sample(folder: Path) -> Path:
    """Write the whole sample run to ``folder``; for looking at the page by hand."""
    return RunFolderWriter(folder)(make_evaluation(), make_metrics(), make_run(), make_examples(), make_budget())


@pytest.fixture
def write_run(tmp_path: Path) -> RunFolderWriter:
    """Write chosen parts of a run folder."""
    return RunFolderWriter(tmp_path / "run")


@pytest.fixture
def sample_run(tmp_path: Path) -> Path:
    """The whole sample run."""
    return write_sample(tmp_path / "sample")


@pytest.fixture
def evaluation() -> Callable[..., Evaluation]:
    """Make an evaluation of five systems."""
    return make_evaluation


@pytest.fixture
def parts() -> dict[str, Any]:
    """Each part of the sample run, to write alone or altered."""
    return {
        "evaluation": make_evaluation(),
        "metrics": make_metrics(),
        "run": make_run(),
        "examples": make_examples(),
        "budget": make_budget(),
    }
