"""What a ranker has gained after the same steps on the same rows: lorank, and sentence-transformers with PEFT.

    OMP_NUM_THREADS=2 python benchmarks/peer_gains.py --data lohelp --seeds 0 1 2 --out runs/peer-gains

Rows, loss, model, cuts and clipping are those of training_peer.py: a training query, its page, and one of BM25's best
100, in batches that are fixed beforehand and the same for all. Sides:

    lorank   LoRA by lorank: softmax over the batch's documents at temperature 0.05
    peer     LoRA by peft in a SentenceTransformer, MultipleNegativesRankingLoss (scale 20)
    full     every weight by lorank

Rates fall linearly to 0 after a tenth of warm-up, for all. The rate of a side is the one of ``--rates`` with the
highest nDCG@10 on dev for the first seed; the others are trained at it. Judged are BM25's 100 best of each query,
re-ordered by the ranker alone, and by its score added to BM25's with the weight that dev chooses; the untuned model
is judged in the same way. The rows of a seed are kept in ``--out``, and a second run goes on from there.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from clicks import compare_groups
from torch import nn
from training_peer import Rows, Side, lorank_side, make_rows, peer_side
from training_step import processor

import lorank
from lorank.data.collection import Collection
from lorank.ranking.consensus.fusion import standardise_run
from lorank.ranking.metrics.groups import group_tied_queries
from lorank.ranking.metrics.measures import mean_of, per_query
from lorank.ranking.scorers import BiEncoder
from lorank.ranking.types import Run
from lorank.training.lists.retrieval import bm25_index
from lorank.training.settings import FirstStageSettings
from lorank.tuned.mix import choose_mix, mix_run
from lorank.tuned.ranker import score_run

SIDES = ("lorank", "peer", "full")
CLIP, WARMUP = 1.0, 0.1
MEASURES = ("nDCG@10", "RR@10")
Values = dict[str, dict[str, dict[str, float]]]


@dataclass(frozen=True)
class Sizes:
    """What all sides share: the rank, the tokens of a text, the rows of a step, the steps."""

    rank: int
    tokens: int
    batch: int
    steps: int


def score_of(side: Side, data: Collection) -> Callable[[dict[str, str], Run], Run]:
    """Return a function that scores the documents of a run for queries, as the library of the side does it."""
    if isinstance(side.model, BiEncoder):
        return lambda queries, run: score_run(side.model, data, queries, run)

    def encode(texts: Sequence[str]) -> np.ndarray:
        vectors: np.ndarray = side.model.encode(texts, batch_size=32, normalize_embeddings=True)
        return vectors

    def score(queries: dict[str, str], run: Run) -> Run:
        found = sorted({document for row in run.values() for document in row})
        vectors = dict(zip(found, encode([data.documents[data.position[d]] for d in found]), strict=True))
        asked = dict(zip(queries, encode(list(queries.values())), strict=True))
        return {query: {d: float(asked[query] @ vectors[d]) for d in row} for query, row in run.items()}

    return score


def train(side: Side, steps: int, rate: float) -> float:
    """Train for ``steps`` steps of AdamW and return the loss of the last."""
    optimizer = torch.optim.AdamW(side.parameters, lr=rate, weight_decay=0.0)
    value = 0.0
    for index in range(steps):
        left = min(1.0, (index + 1) / (WARMUP * steps), (steps - index) / ((1 - WARMUP) * steps))
        optimizer.param_groups[0]["lr"] = rate * left
        loss = side.loss_of(index)
        loss.backward()
        nn.utils.clip_grad_norm_(side.parameters, CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        value = loss.item()
    return value


def judge(
    score: Callable[[dict[str, str], Run], Run], data: Collection, found: dict[str, Run]
) -> tuple[Values, dict[str, float]]:
    """Return the values of each test query, alone and mixed, and dev's means with the weight that dev chooses."""
    learned = {name: score(data.split(name).queries, run) for name, run in found.items()}
    first = {name: standardise_run(run) for name, run in found.items()}
    grid = [g for g in FirstStageSettings().grid if np.isfinite(g)]
    mix = choose_mix(first["dev"], learned["dev"], grid, lambda run: mean_of(run, data.dev.qrels, MEASURES[0]))
    mixed = {name: mix_run(mix, first[name], learned[name]) for name in found}
    dev = {kind: mean_of(run["dev"], data.dev.qrels, MEASURES[0]) for kind, run in
           (("alone", learned), ("mixed", mixed))}  # fmt: skip
    values = {kind: per_query(run["test"], data.test.qrels, list(MEASURES)) for kind, run in
              (("alone", learned), ("mixed", mixed))}  # fmt: skip
    return values, {**dev, "weight": mix.weight}


def run_side(name: str, rows: Rows, found: dict[str, Run], sizes: Sizes, rate: float) -> dict[str, Any]:
    """Train and judge a side, or the untuned model where the rate is 0; return its record."""
    torch.manual_seed(0)
    if name == "peer":
        side = peer_side(rows, sizes.rank, sizes.tokens, "fp32")
    else:
        side = lorank_side(rows, None if name == "full" else sizes.rank, sizes.tokens, "fp32")
    last = train(side, sizes.steps, rate) if rate else float("nan")
    values, dev = judge(score_of(side, rows.data), rows.data, found)
    return {"side": name, "rate": rate, "loss": last, "dev": dev, "test": values}


def compare(records: Sequence[dict[str, Any]], data: Collection) -> None:
    """Print means over seeds and differences with intervals over groups of queries."""
    groups = group_tied_queries(data.test.qrels)
    mean: dict[tuple[str, str, str], dict[str, float]] = {}
    seeds: dict[str, int] = {}
    for record in records:
        seeds[record["side"]] = seeds.get(record["side"], 0) + 1
    for record in records:
        for kind, measures in record["test"].items():
            for measure, values in measures.items():
                own = mean.setdefault((record["side"], kind, measure), {})
                for query, value in values.items():
                    own[query] = own.get(query, 0.0) + value / seeds[record["side"]]
    print("| side | seeds | rates | nDCG@10 alone | RR@10 alone | nDCG@10 mixed | RR@10 mixed |")
    print("|---|---:|---|---:|---:|---:|---:|")
    for side, count in seeds.items():
        rates = sorted({record["rate"] for record in records if record["side"] == side})
        cells = [f"{np.mean(list(mean[side, kind, m].values())):.4f}" for kind in ("alone", "mixed") for m in MEASURES]
        print(f"| {side} | {count} | {', '.join(f'{rate:g}' for rate in rates)} | {' | '.join(cells)} |")
    print()
    for one, other in (("lorank", "peer"), ("lorank", "full"), ("lorank", "untuned"), ("peer", "untuned")):
        for kind in ("alone", "mixed"):
            if (one, kind, MEASURES[0]) in mean and (other, kind, MEASURES[0]) in mean:
                gap, low, high = compare_groups(mean[one, kind, MEASURES[0]], mean[other, kind, MEASURES[0]], groups)
                print(f"- {one} over {other}, {kind}: {gap:+.4f} [{low:+.4f}, {high:+.4f}]")


def main() -> None:
    """Measure what is not measured yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="lohelp")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rates", type=float, nargs="+", default=[5e-4, 1e-3, 2e-3])
    parser.add_argument("--full-rates", type=float, nargs="+", default=[3e-5, 1e-4, 3e-4])
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=90)
    parser.add_argument("--out", type=Path, default=Path("runs/peer-gains"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    sizes, data = Sizes(given.rank, given.tokens, given.batch, given.steps), lorank.load(given.data)
    found = {name: bm25_index(data).search(data.split(name).queries, 100) for name in ("dev", "test")}
    path = given.out / "records.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def measured(side: str, seed: int, rate: float) -> dict[str, Any]:
        for record in records:
            if (record["side"], record["seed"], record["rate"]) == (side, seed, rate):
                return record
        rows = make_rows(data, sizes.batch, sizes.steps, seed)
        name = "lorank" if side == "untuned" else side
        record = {**run_side(name, rows, found, sizes, rate), "side": side, "seed": seed}
        records.append(record)
        with path.open("a") as file:
            file.write(json.dumps(record) + "\n")
        print(f"{side} seed {seed} rate {rate:g} loss {record['loss']:.3f} dev {record['dev']}", flush=True)
        return record

    kept = [measured("untuned", 0, 0.0)]
    for side in given.sides:
        rates = given.full_rates if side == "full" else given.rates
        best = max((measured(side, given.seeds[0], rate) for rate in rates), key=lambda each: each["dev"]["mixed"])
        kept += [measured(side, seed, best["rate"]) for seed in given.seeds]
    said = f"{sizes.steps} steps of {sizes.batch} rows at {sizes.tokens} tokens"
    print(f"\n{date.today()}, {processor()}, torch {torch.__version__}, {given.data}, r={sizes.rank}, {said}\n")
    compare(kept, data)


if __name__ == "__main__":
    main()
