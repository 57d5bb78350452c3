r"""Trans-LoRA: an adapter moved to another base model without the data that it was trained on.

    1. a writer (a language model, or anything else) makes queries for the given documents
    2. a discriminator, a judge, says of each how much it looks like the task's own; the best share is kept
    3. the source with its adapter scores lists of documents for the kept queries
    4. the target's adapter is trained until its scores agree: mean squared difference within each list

The discriminator is learned beside the source adapter, while the task's queries are still there, from those and
from what the writer makes (``TaskLikeness``), and is shipped with the adapter in place of the data. Any judge that
answers pointwise questions takes its place. Documents are no task data: they are the collection that is searched.

Wang et al., Trans-LoRA: towards data-free Transferable Parameter Efficient Finetuning, 2024, arXiv:2405.17258.

*Deviations*: the paper moves text generators and its discriminator is a second adapter of the source model; here
rankers are moved, and the discriminator is a logistic regression on embeddings that the caller chooses.

It steps by itself and not through the training loop: its goals are the source's scores of lists that are drawn anew at
every step, which no split of a collection holds; a run takes seconds and is not resumed.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.lowrank import Adapter
from lorank.ranking.judges import Judge
from lorank.ranking.judges.question import Question, Reply
from lorank.ranking.judges.session import Session
from lorank.ranking.scorers.ranker import Ranker, TrainableRanker

Writer = Callable[[str], Sequence[str]]
"""A document -> queries that it might answer."""

Embed = Callable[[Sequence[str]], np.ndarray]
"""Texts -> float [n, features]."""

ASKED = "a query of the task"
"""What the discriminator is asked about; judges that read the question receive the task instead."""


class TaskLikeness(Judge):
    """A discriminator: the log-odds that a text is a query of the task rather than a synthetic one.

    Args:
        real: the task's queries; not kept.
        synthetic: what the writer makes.
        embed: texts -> vectors.
        ridge: the weight of the squared norm of the coefficients, above 0.
    """

    kinds = frozenset({"pointwise"})

    def __init__(self, real: Sequence[str], synthetic: Sequence[str], embed: Embed, *, ridge: float = 1.0) -> None:
        if not real or not synthetic or not ridge > 0:
            raise UsageError("a discriminator needs real and synthetic queries, and a ridge above 0")
        self.embed = embed
        x = torch.from_numpy(np.asarray(embed([*real, *synthetic]), dtype=np.float64))
        x = torch.cat([x, torch.ones(len(x), 1, dtype=torch.float64)], 1)
        y = (torch.arange(len(x)) < len(real)).double()
        self.coefficients = torch.zeros(x.shape[1], dtype=torch.float64)
        for _ in range(30):  # Newton's method; the objective is strictly convex
            p = torch.sigmoid(x @ self.coefficients)
            gradient = x.t() @ (p - y) + ridge * self.coefficients
            curvature = (x.t() * (p * (1 - p))) @ x + ridge * torch.eye(x.shape[1], dtype=torch.float64)
            self.coefficients = self.coefficients - torch.linalg.solve(curvature, gradient)

    def answer(self, query: str, documents: Sequence[str], questions: Sequence[Question]) -> Iterable[Reply]:
        """Yield the log-odds of the text that each question shows."""
        x = np.asarray(self.embed([documents[question.documents[0]] for question in questions]), dtype=np.float64)
        odds = x @ self.coefficients[:-1].numpy() + float(self.coefficients[-1])
        for question, value in zip(questions, odds.tolist(), strict=True):
            yield Reply(value, self.tokens_in("", documents, question), 1)


@dataclass(frozen=True)
class Transferred:
    """How a transfer went: queries written and kept, and the loss by step."""

    written: list[str]
    kept: list[str]
    losses: list[float]


def synthesise(documents: Sequence[str], write: Writer) -> list[str]:
    """Return what ``write`` makes of all documents, without empty and repeated queries, in order."""
    return list(dict.fromkeys(query.strip() for document in documents for query in write(document) if query.strip()))


def keep_likely(queries: Sequence[str], discriminator: Judge, share: float, asked: str = ASKED) -> list[str]:
    """Return the queries that ``discriminator`` finds most like the task's, in the order given.

    Args:
        queries: The texts of the queries.
        discriminator: The judge that answers pointwise questions about them.
        share: The share of the queries, in (0, 1], to keep; one at least is kept.
        asked: What the judge is asked about.

    Raises:
        UsageError: If ``share`` is out of its range.
    """
    if not 0 < share <= 1:
        raise UsageError(f"share {share!r} is not in (0, 1]")
    points = np.array(Session(discriminator, asked, queries).points(range(len(queries))))
    best = np.argsort(-points, kind="stable")[: max(round(share * len(queries)), 1)]
    return [queries[place] for place in sorted(best.tolist())]


@catalogued(
    "trans-lora",
    area="adapters.merge",
    title="Trans-LoRA: towards data-free Transferable Parameter Efficient Finetuning",
    reach="Python alone: it takes two rankers, a writer of texts and a discriminator together",
)
def transfer(
    teacher: Ranker,
    target: TrainableRanker,
    adapter: Adapter,
    documents: Sequence[str],
    write: Writer,
    discriminator: Judge,
    *,
    asked: str = ASKED,
    share: float = 0.5,
    steps: int = 200,
    lr: float = 5e-3,
    batch: int = 8,
    list_size: int = 8,
    seed: int = 0,
) -> Transferred:
    """Train ``adapter`` on ``target`` to score as ``teacher`` does, on queries made up for ``documents``.

    Args:
        teacher: the source with its adapter.
        target: the ranker to move to.
        adapter: attached to the target's module, at its start.
        documents: texts of the collection, ``list_size`` at least.
        write: makes queries of a document.
        discriminator: answers pointwise questions about queries.
        asked: the query with which the discriminator is asked.
        share: of the written queries to keep, in (0, 1].
        steps: of AdamW.
        lr: its learning rate.
        batch: queries a step.
        list_size: documents a query.
        seed: of the lists drawn.
    """
    if list_size < 2 or len(documents) < list_size:
        raise UsageError(f"lists of {list_size} need 2 documents at least and no more than the {len(documents)} given")
    written = synthesise(documents, write)
    if not written:
        raise UsageError("the writer made no query of any document")
    kept = keep_likely(written, discriminator, share, asked)
    wanted = _teacher_scores(teacher, kept, documents)
    inputs = target.prepare(kept, documents)
    draw = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(adapter.parameters(), lr=lr, weight_decay=0.0)
    losses = []
    for _ in range(steps):
        queries = torch.from_numpy(draw.integers(len(kept), size=batch))
        lists = torch.from_numpy(np.stack([draw.permutation(len(documents))[:list_size] for _ in range(batch)]))
        scores = target.forward(inputs, queries, lists, torch.ones(lists.shape, dtype=torch.bool)).float()
        goal = wanted[queries.unsqueeze(1), lists].to(scores.device)
        loss = (_center(scores) - _center(goal)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return Transferred(written, kept, losses)


def _teacher_scores(teacher: Ranker, queries: Sequence[str], documents: Sequence[str]) -> torch.Tensor:
    """Return the teacher's scores [queries, documents]."""
    pairs = np.stack(np.meshgrid(np.arange(len(queries)), np.arange(len(documents)), indexing="ij"), -1).reshape(-1, 2)
    return torch.from_numpy(teacher.score_pairs(queries, documents, pairs)).float().view(len(queries), -1)


def _center(scores: torch.Tensor) -> torch.Tensor:
    return scores - scores.mean(-1, keepdim=True)
