"""Projected optimizers beside AdamW and galore-torch: masked language modelling, ranking, and what a step costs.

    OMP_NUM_THREADS=1 python benchmarks/optimizers.py language [--steps 60] [--ledger runs/optimizers.jsonl]
    OMP_NUM_THREADS=1 python benchmarks/optimizers.py ranking  [--steps 12] [--rows adamw galore ...]
    OMP_NUM_THREADS=1 python benchmarks/optimizers.py cost     [--rounds 12]
    OMP_NUM_THREADS=1 python benchmarks/optimizers.py table

**language**: a transformer of two layers (64 wide, 4 heads, 256 inside) predicts masked words of the documents of
pydocs, among the 1,000 most frequent words; 15% of the words of 8 windows of 32 are masked at each step. The loss of 40
windows that are never trained on is what counts, as a mean over two seeds.
**ranking**: MiniLM as a bi-encoder on pydocs, read at its first token so that there is something to learn, all weights
trained, 48 tokens read; BM25's best 20 documents are judged. Dev nDCG@10 chooses the rate, all test queries are
reported, as a mean over two seeds, and intervals are over their groups.
**cost**: all matrices and vectors of MiniLM with random gradients. Every optimizer makes one step in turn, round after
round, in one process; a row is the median of its ratios to AdamW within a round. Peak memory is that of a process of
its own, above its model and gradients.

Each row is run at three rates, and beyond an edge where the best is there. A run is a line of the ledger and is not
made twice. The peer is galore-torch's AdamW, loaded from its file (its package imports bitsandbytes); without it the
row is left out.
"""

import argparse
import importlib.util
import io
import json
import math
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from clicks import compare_groups
from torch import nn

import lorank
from lorank import lowrank
from lorank.data.collection import Collection
from lorank.lowrank.projected.parameters import matrices_of
from lorank.ranking.metrics.groups import group_tied_queries
from lorank.ranking.metrics.measures import mean_of, per_query
from lorank.ranking.scorers import BiEncoder
from lorank.ranking.types import Run
from lorank.training.fitting import fit_run
from lorank.training.lists.retrieval import bm25_index
from lorank.training.plan import Plan
from lorank.training.recipe import RecipeFile, override
from lorank.training.settings import OptimizerSettings
from lorank.tuned.ranker import score_run

PEER = "galore-torch"
GAP, RANKING_GAP = 20, 8
"""Steps from one projector to the next: the runs are short."""
RANK, DEPTH = 96, 20
"""The rank of MiniLM's projections, a quarter of its width; the documents of a query that are judged."""
RANKING = {
    "training.batch_size": 8,
    "training.evaluations": 0,
    "training.evaluation_queries": 8,
    "training.evaluation_depth": 8,
    "training.weight_decay": 0.0,
    "first_stage.source": "none",
    "lists.depth": DEPTH,
    "keep": "tuned",
    "judge_test": False,
}


@dataclass(frozen=True)
class Row:
    """An optimizer: its name, the rates that are tried in pretraining and in ranking, and its options."""

    name: str
    language: Sequence[float]
    ranking: Sequence[float]
    options: dict[str, Any] = field(default_factory=dict)


WHOLE, QUARTER = (1e-3, 3e-3, 1e-2), (4e-3, 1.2e-2, 4e-2)
TUNING, TUNING_QUARTER = (1e-5, 3e-5, 1e-4), (4e-5, 1.2e-4, 4e-4)
ROWS = {
    "adamw": Row("adamw", WHOLE, TUNING),
    PEER: Row(PEER, QUARTER, TUNING_QUARTER),
    "galore": Row("galore", QUARTER, TUNING_QUARTER),
    "golore": Row("golore", QUARTER, TUNING_QUARTER),
    "q-galore": Row("q-galore", QUARTER, TUNING_QUARTER),
    "fira": Row("fira", QUARTER, TUNING_QUARTER),
    "frugal": Row("frugal", WHOLE, TUNING, {"rest_rate": 0.1}),
    "flora-compressor": Row("flora-compressor", WHOLE, TUNING),
    "apollo": Row("apollo", WHOLE, TUNING),
    "apollo-mini": Row("apollo-mini", WHOLE, TUNING),
    "dct-galore": Row("dct-galore", WHOLE, TUNING),
    "gradnormlorp": Row("gradnormlorp", QUARTER, TUNING_QUARTER),
    "owlore": Row("owlore", WHOLE, TUNING, {"interval": 10}),
    "gorp": Row("gorp", QUARTER, TUNING_QUARTER),
    "coso": Row("coso", QUARTER, TUNING_QUARTER),
    "adamw8bit": Row("adamw8bit", WHOLE, TUNING),
    "galore-8bit": Row("galore", QUARTER, TUNING_QUARTER, {"inner": "adamw8bit"}),
}
Parameters = list[tuple[str, nn.Parameter]]


@dataclass
class Ledger:
    """The lines of all runs that are done, one file of JSON lines."""

    path: Path

    def __post_init__(self) -> None:
        whole = self.path.read_text().splitlines() if self.path.exists() else []
        self.lines: list[dict[str, Any]] = [json.loads(line) for line in whole]

    def run(
        self, task: str, row: str, rate: float, seed: int, steps: int, work: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """Return the line of a run, from the file where it is there."""
        key = {"task": task, "row": row, "rate": rate, "seed": seed, "steps": steps}
        for line in self.lines:
            if {name: line[name] for name in key} == key:
                return line
        line = {**key, **work()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        self.lines.append(line)
        print(f"{time.strftime('%H:%M:%S')} {row} rate {rate:g} seed {seed}: {line['dev']:.4f}", file=sys.stderr)
        return line

    def best(self, task: str, row: str) -> dict[str, Any]:
        """Return the line of the row's best rate at the first seed."""
        return max(self.seen(task, row, seed=0), key=lambda line: line["dev"])

    def seen(self, task: str, row: str, **more: Any) -> list[dict[str, Any]]:
        """Return a row's lines with the values of ``more``."""
        wanted = {"task": task, "row": row, **more}
        return [line for line in self.lines if {name: line[name] for name in wanted} == wanted]


def peer() -> Any | None:
    """Return galore-torch's AdamW, or None where it is not installed."""
    spec = importlib.util.find_spec("galore_torch")
    if spec is None or spec.origin is None:
        return None
    folder, package = Path(spec.origin).parent, type(sys)("galore_peer")
    package.__path__ = [str(folder)]
    sys.modules["galore_peer"] = package
    for name in ("galore_projector", "adamw"):
        own = importlib.util.spec_from_file_location(f"galore_peer.{name}", folder / f"{name}.py")
        sys.modules[own.name] = importlib.util.module_from_spec(own)
        own.loader.exec_module(sys.modules[own.name])
    return sys.modules["galore_peer.adamw"].AdamW


def make(row: Row, matrices: Parameters, others: Parameters, rate: float, rank: int, seed: int, gap: int = GAP) -> Any:
    """Return the optimizer of a row; ``others`` step without projection."""
    whole, rest = [p for _, p in matrices], [p for _, p in others]
    if row.name == "adamw":
        return torch.optim.AdamW([*whole, *rest], lr=rate, weight_decay=0.0)
    if row.name == PEER:
        group = {"params": whole, "rank": rank, "update_proj_gap": gap, "scale": 0.25, "proj_type": "std"}
        return peer()([group, {"params": rest}], lr=rate, weight_decay=0.0, eps=1e-8, no_deprecation_warning=True)
    own = None if row.name == "apollo-mini" else rank
    groups = [{"params": matrices, **({} if own is None else {"rank": own})}, {"params": others, "rank": None}]
    groups = [group for group in groups if group["params"]]
    return lowrank.optimizer(row.name, groups, lr=rate, seed=seed, **{"gap": gap, **row.options})


def state_bytes(optimizer: Any) -> int:
    """Return the bytes of an optimizer's state, those of the peer's projectors too."""
    found = 0
    for state in optimizer.state.values():
        for value in state.values():
            value = getattr(value, "ortho_matrix", value)
            if isinstance(value, torch.Tensor) and value.dim():
                found += value.numel() * value.element_size()
    return found


class Reader(nn.Module):
    """A small transformer that predicts words."""

    def __init__(self, words: int, width: int = 64, length: int = 32) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(words, width), nn.Embedding(length, width)
        layer = nn.TransformerEncoderLayer(width, 4, 256, 0.0, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, words)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return logits [batch, length, words]."""
        return self.head(self.layers(self.words(tokens) + self.places.weight))


def read_words(count: int = 1000) -> torch.Tensor:
    """Return the documents of pydocs as windows [n, 32] of word numbers; 0 is any other word, 1 the mask."""
    words = [re.findall(r"[a-z_]+|[^\sa-z]", text.lower()) for text in lorank.load("pydocs").documents]
    common = [word for word, _ in Counter(word for text in words for word in text).most_common(count - 2)]
    number = {word: place + 2 for place, word in enumerate(common)}
    flat = torch.tensor([number.get(word, 0) for text in words for word in text])
    return flat[: len(flat) // 32 * 32].view(-1, 32)


def masked_loss(model: Reader, windows: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return the mean loss at 15% of the places."""
    hidden = torch.rand(windows.shape, generator=generator) < 0.15
    logits = model(windows.masked_fill(hidden, 1))
    return nn.functional.cross_entropy(logits[hidden], windows[hidden])


def run_language(row: Row, rate: float, seed: int, windows: torch.Tensor, steps: int) -> dict[str, Any]:
    """Train one reader and return its loss on windows that it was not trained on."""
    torch.manual_seed(seed)
    model, generator = Reader(1000), torch.Generator().manual_seed(seed)
    named = list(model.named_parameters())
    matrices = [(name, p) for name, p in named if p.dim() == 2 and name.startswith("layers.")]
    others = [(name, p) for name, p in named if not any(p is other for _, other in matrices)]
    optimizer = make(row, matrices, others, rate, 16, seed)
    begun = time.process_time()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 8) * (1 - step / steps)
        chosen = windows[40:][torch.randint(len(windows) - 40, (8,), generator=generator)]
        loss = masked_loss(model, chosen, generator)
        if not loss.isfinite():  # the rate is too high for this row: worse than any other
            return {"loss": math.inf, "dev": -math.inf, "bytes": state_bytes(optimizer), "diverged": step}
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    spent = time.process_time() - begun
    with torch.no_grad():
        final = float(masked_loss(model.eval(), windows[:40], torch.Generator().manual_seed(99)))
    return {"loss": final, "dev": -final, "bytes": state_bytes(optimizer), "cpu_seconds": round(spent, 2)}


def sweep(rates: Sequence[float], run: Callable[[float], float | None]) -> None:
    """Run every rate, and up to two beyond an edge where the best is there; ``run`` returns what is to be high."""
    found = {rate: run(rate) for rate in rates}
    for _ in range(2):
        known = {rate: value for rate, value in found.items() if value is not None}
        if not known:
            return
        best, low, high = max(known, key=known.__getitem__), min(found), max(found)
        if best not in (low, high):
            return
        beyond = best / 3 if best == low else best * 3
        found[beyond] = run(beyond)


def language(ledger: Ledger, rows: Sequence[str], steps: int) -> None:
    """Sweep every row on masked language modelling: the first seed chooses the rate, another is run at it."""
    windows = read_words()
    for name in rows:

        def run(rate: float, seed: int = 0, name: str = name) -> float | None:
            work = partial(run_language, ROWS[name], rate, seed, windows, steps)
            return ledger.run("language", name, rate, seed, steps, work).get("dev")

        sweep(ROWS[name].language, run)
        run(ledger.best("language", name)["rate"], 1)


def ranking(ledger: Ledger, rows: Sequence[str], steps: int) -> None:
    """Sweep every row on ranking pydocs: the first seed chooses the rate, another is run at it."""
    data = lorank.load("pydocs")
    index = bm25_index(data)
    found = {name: index.search(data.splits[name].queries, DEPTH) for name in ("dev", "test")}
    for name in rows:

        def run(rate: float, seed: int = 0, name: str = name) -> float | None:
            work = partial(run_ranking, name, rate, seed, data, found, steps)
            return ledger.run("ranking", name, rate, seed, steps, work).get("dev")

        sweep(ROWS[name].ranking, run)
        run(ledger.best("ranking", name)["rate"], 1)


def run_ranking(
    name: str, rate: float, seed: int, data: Collection, found: dict[str, Run], steps: int
) -> dict[str, Any]:
    """Train every weight of MiniLM by an optimizer and judge it on BM25's best documents of dev and test."""
    made: list[Any] = []

    def prepare(plan: Plan) -> Plan:
        def keep(groups: list[dict[str, Any]], settings: OptimizerSettings) -> Any:
            made.append(peer_of(plan, groups, rate) if name == PEER else plan.make_optimizer(groups, settings))
            return made[-1]

        return replace(plan, projecting=keep)

    row = ROWS[name]
    changes = {"seed": seed, "training.steps": steps, "training.lr": rate, "adapter.name": "full", **RANKING}
    if name not in ("adamw", PEER):
        rank = {} if name == "apollo-mini" else {"optimizer.rank": RANK}
        changes |= {"optimizer.name": row.name, "optimizer.options": {"gap": RANKING_GAP, **row.options}, **rank}
    with TemporaryDirectory() as folder:
        begun = time.process_time()
        ranker = BiEncoder("minilm", max_length=48, pooling="cls", dtype="auto")
        fit_run(ranker, data, override(RecipeFile(), changes), Path(folder) / "run", prepare=prepare)
        spent = time.process_time() - begun
        scored = {split: score_run(ranker, data, data.splits[split].queries, run) for split, run in found.items()}
    dev = mean_of(scored["dev"], data.dev.qrels, "nDCG@10")
    test = per_query(scored["test"], data.test.qrels, ["nDCG@10"])["nDCG@10"]
    return {"dev": dev, "test": test, "bytes": state_bytes(made[0]), "cpu_seconds": round(spent, 2)}


def peer_of(plan: Plan, groups: list[dict[str, Any]], rate: float) -> Any:
    """Return galore-torch's optimizer of a run; what lorank would project it projects, and nothing else."""
    inside = matrices_of(plan.ranker.module, "all-linear", [], set())
    parameters = [p for group in groups for p in group["params"]]
    matrices = [("", p) for p in parameters if id(p) in inside]
    others = [("", p) for p in parameters if id(p) not in inside]
    optimizer = make(ROWS[PEER], matrices, others, rate, RANK, 0, RANKING_GAP)
    optimizer.state_dict = lambda: {"state": {}, "param_groups": []}  # its projectors are no tensors to save
    return optimizer


def minilm_parameters(seed: int = 0) -> tuple[Parameters, Parameters]:
    """Return the matrices of six layers as MiniLM has them, and its word embeddings and vectors, with gradients."""
    generator = torch.Generator().manual_seed(seed)
    matrices, others = [], [("words", nn.Parameter(torch.zeros(30522, 384)))]
    for layer in range(6):
        shapes = [(384, 384)] * 4 + [(1536, 384), (384, 1536)]
        for place, shape in enumerate(shapes):
            matrices.append((f"layer.{layer}.{place}", nn.Parameter(torch.zeros(shape))))
            others.append((f"layer.{layer}.{place}.bias", nn.Parameter(torch.zeros(shape[0]))))
    for _, p in [*matrices, *others]:
        p.grad = torch.randn(p.shape, generator=generator)
    return matrices, others


def cost(rows: Sequence[str], rounds: int) -> dict[str, dict[str, float]]:
    """Return what a step costs: the median ratio to AdamW of ordinary steps and of refreshes, and bytes."""
    matrices, others = minilm_parameters()
    optimizers = {name: make(ROWS[name], matrices, others, 1e-9, 96, 0) for name in rows if name != "owlore"}
    times: dict[str, list[float]] = {name: [] for name in optimizers}
    for _ in range(rounds + 1):
        for name, optimizer in optimizers.items():
            begun = time.process_time()
            optimizer.step()
            times[name].append(time.process_time() - begun)
    found = {}
    for name in optimizers:
        ratios = [own / base for own, base in zip(times[name][1:], times["adamw"][1:], strict=True)]
        found[name] = {
            "step": median(ratios),
            "first": times[name][0] / median(times["adamw"]),
            "bytes": state_bytes(optimizers[name]),
            "peak": float(peak(name)),
            "resumes": resumes(optimizers[name]),
        }
    return found


def peak(name: str) -> int:
    """Return the bytes by which a process's peak grows over its model and gradients within three steps."""
    command = [sys.executable, __file__, "peak", "--rows", name]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def print_peak(name: str) -> None:
    """Print the bytes by which this process's peak grows."""
    matrices, others = minilm_parameters()
    optimizer = make(ROWS[name], matrices, others, 1e-9, 96, 0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten; getrusage would hold the parent's too
    before = resident("VmHWM")
    for _ in range(3):
        optimizer.step()
    print(resident("VmHWM") - before)


def resident(kind: str) -> int:
    """Return what /proc says of this process's memory, in bytes."""
    line = next(each for each in Path("/proc/self/status").read_text().splitlines() if each.startswith(kind))
    return int(line.split()[1]) * 1024


def resumes(optimizer: Any) -> bool:
    """Return whether a state is read back by ``torch.load(weights_only=True)``."""
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    try:
        torch.load(file, weights_only=True)
    except Exception:  # noqa: BLE001 - whatever the loader says, the state is not read
        return False
    return True


def print_tables(ledger: Ledger, rows: Sequence[str]) -> None:
    """Print what the ledger holds."""
    print("| optimizer | rate | loss, mean of two seeds | from | to | state bytes | CPU s |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name in rows:
        if not ledger.seen("language", name, seed=0):
            continue
        best = ledger.best("language", name)
        lines = ledger.seen("language", name, rate=best["rate"])
        losses, spent = [line["loss"] for line in lines], median(line["cpu_seconds"] for line in lines)
        print(
            f"| {name} | {best['rate']:.2g} | {mean(losses):.3f} | {min(losses):.3f} | {max(losses):.3f} | "
            f"{best['bytes']:,} | {spent:.1f} |"
        )
    print("\n| optimizer | rate | dev nDCG@10 | test nDCG@10, seeds 0, 1 | against AdamW | state bytes | CPU s |")
    print("|---|---:|---:|---|---|---:|---:|")
    if not ledger.seen("ranking", "adamw", seed=0):
        return
    data = lorank.load("pydocs")
    groups = group_tied_queries(data.test.qrels)
    base = test_values(ledger, "adamw")
    for name in rows:
        if not ledger.seen("ranking", name, seed=0):
            continue
        best, values = ledger.best("ranking", name), test_values(ledger, name)
        lines = ledger.seen("ranking", name, rate=best["rate"])
        gap, low, high = compare_groups(values, base, groups)
        tests = ", ".join(f"{mean(line['test'].values()):.4f}" for line in lines)
        print(
            f"| {name} | {best['rate']:.2g} | {best['dev']:.4f} | {tests} | "
            f"{gap:+.4f} [{low:+.4f}, {high:+.4f}] | {best['bytes']:,} | {best['cpu_seconds']:.0f} |"
        )


def test_values(ledger: Ledger, name: str) -> dict[str, float]:
    """Return nDCG@10 of each test query, the mean over the seeds that ran at the row's rate."""
    lines = ledger.seen("ranking", name, rate=ledger.best("ranking", name)["rate"])
    return {query: mean(line["test"][query] for line in lines) for query in lines[0]["test"]}


def main() -> None:
    """Run one part, or print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("language", "ranking", "cost", "peak", "table"))
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--steps", type=int)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--ledger", type=Path, default=Path("runs/optimizers.jsonl"))
    given = parser.parse_args()
    rows = [name for name in given.rows if name != PEER or peer() is not None]
    ledger = Ledger(given.ledger)
    if given.part == "language":
        language(ledger, rows, given.steps or 60)
    elif given.part == "ranking":
        ranking(ledger, rows, given.steps or 12)
    elif given.part == "cost":
        print(json.dumps(cost(rows, given.rounds), indent=1))
    elif given.part == "peak":
        print_peak(given.rows[0])
    else:
        print_tables(ledger, rows)


if __name__ == "__main__":
    main()
