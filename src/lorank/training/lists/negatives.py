"""Where the negatives of a training list come from: the first stage, or the bi-encoder that is trained.

    first-stage   drawn from the best ``depth`` documents of the first stage
    static        drawn from the best ``depth`` documents of the bi-encoder before training; with ``shared`` lists the
                  other lists' documents are random negatives beside them (STAR)
    live          the best documents of the bi-encoder as it is at this step, exactly; documents are encoded once,
                  before training, and the adapter changes the vectors of queries alone (ADORE)
    adversarial   drawn by the encoder's own softmax over its best ``depth`` at this step (AR2; with the loss ``ar2``)
    adaptive      drawn from a bin of the encoder's best ``depth`` at this step; a policy learns which bin (ASR)
    bottom        drawn from the last four of the best ``depth``, or the last ``negatives``: easy ones (DUQGen)

Paper: Zhan, Mao, Liu, Guo, Zhang, Ma 2021, *Optimizing Dense Retrieval Model Training with Hard Negatives*,
arXiv:2104.08051.

*Deviations*: STAR's loss is ``ranknet`` and ADORE's ``lambda``, where the recipe says so; any loss of lists will do.
ADORE as published searches with dropout on, so its negatives are those of a noisy encoder; here they are those that
the ranker would return. ``spare`` and ``depth`` are not used by live negatives. All relevant documents of a query
stand in its list, where the published code takes one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lorank.data.candidates import TrainingList
from lorank.data.collection import Collection, Split
from lorank.errors import UsageError
from lorank.ranking.dense_index.search import search_blocks
from lorank.ranking.losses import requirements_of
from lorank.ranking.losses.core.registry import find_loss
from lorank.ranking.scorers.bi_encoder import BiEncoder, TextInputs
from lorank.ranking.scorers.encoded import EncodedDocuments
from lorank.ranking.scorers.ranker import TrainableRanker
from lorank.ranking.scorers.tokens import Span
from lorank.ranking.types import Run
from lorank.registration import catalogued
from lorank.training.lists.batches import ListBatch
from lorank.training.lists.lists import CandidateLists
from lorank.training.lists.retrieval import nearest
from lorank.training.lists.teacher import labelled_by
from lorank.training.settings import Recipe

LIVE_NEGATIVES = 32
"""The live negatives of a list, where the recipe does not say how many: their vectors are there already."""

LIVE = ("live", "adversarial", "adaptive")
"""Sources that ask the encoder as it is at each step."""

EASY = 4
"""The fewest of the last candidates from which easy negatives are drawn."""


def check_negatives(recipe: Recipe, ranker: TrainableRanker, data: Collection) -> None:
    """Raise UsageError where negatives cannot come from where the recipe says; let ``live`` adapt queries alone.

    Args:
        recipe: The recipe.
        ranker: The ranker that is to be trained.
        data: The collection.
    """
    source = recipe.lists.negatives_from
    own = source in ("static", *LIVE)
    if own and not isinstance(ranker, BiEncoder):
        raise UsageError(
            f"lists.negatives_from={source}: negatives that the ranker finds itself need a bi-encoder, and this is a "
            f"{ranker.kind}; take --kind bi-encoder, or negatives of the first stage"
        )
    if source != "first-stage" and data.train.impressions is not None:
        raise UsageError(f"lists.negatives_from={source}: the lists of a click log are those that were shown")
    if source == "adversarial" and "draws" not in requirements_of(find_loss(recipe.loss.name)):
        raise UsageError(
            "lists.negatives_from=adversarial: negatives that are drawn are for a loss that counts draws; take "
            f"--loss ar2, or --negatives-from live with the loss {recipe.loss.name!r}"
        )
    if source in LIVE and isinstance(ranker, BiEncoder):
        ranker.adapted = "queries"
    if getattr(ranker, "adapted", "both") == "queries" and recipe.adapter.name in ("full", "head"):
        why = f"negatives_from={source}" if source in LIVE else "reading.adapted=queries"
        raise UsageError(
            f"{why} keeps the vectors of documents, which adapter={recipe.adapter.name!r} would change; choose a "
            "low-rank adapter, such as --adapter lora"
        )


@catalogued(
    "star-adore",
    area="retrieve",
    title="Optimizing Dense Retrieval Model Training with Hard Negatives",
    reach="lorank train --negatives-from static (STAR) or live (ADORE), or lists.negatives_from in a recipe",
)
@dataclass
class LiveLists(CandidateLists):
    """Lists whose negatives are the documents that the encoder, as it is now, finds best.

    ``encoder`` is the one that is trained, and ``inputs`` the prepared texts, the documents' vectors among them.
    """

    encoder: BiEncoder | None = None
    inputs: TextInputs | None = None
    width: int = LIVE_NEGATIVES

    def collate(self, lists: Sequence[TrainingList]) -> ListBatch:
        """Add the live negatives of each list, and lay the lists out as one grid."""
        assert self.encoder is not None
        assert self.inputs is not None
        assert self.inputs.vectors is not None
        at = np.array([self.query_at[each.query_id] for each in lists])
        queries = query_vectors(self.encoder, self.inputs, at)
        known = [self._relevant.get(each.query_id, frozenset()) for each in lists]
        depth = self.width + max(map(len, known), default=0)
        found = search_blocks(queries, [self.inputs.vectors], depth)
        drawn = []
        for each, relevant, (documents, scores) in zip(lists, known, found, strict=True):
            others = np.flatnonzero([document not in relevant for document in documents.tolist()])[: self.width]
            others = others[self.take(each, documents[others], scores[others])]
            hard = documents[others]
            own = np.array([document in relevant for document in each.documents], bool)
            listed = replace(
                each,
                documents=np.concatenate([each.documents[own], hard]),
                labels=np.concatenate([each.labels[own], np.zeros(len(hard), np.float32)]),
                first_stage=None,
            )
            if self.teacher is not None:
                ids = self.collection.document_ids
                listed = labelled_by(self.teacher, listed, [ids[d] for d in listed.documents])
            drawn.append(listed)
        return super().collate(drawn)

    def take(self, drawn: TrainingList, hard: np.ndarray, similarities: np.ndarray) -> np.ndarray:
        """Return the places int64 of the documents that a list holds, of the best that are not relevant: all of them.

        Args:
            drawn: The list.
            hard: The documents, int64 [n], best first.
            similarities: How similar they are to the query, float32 [n].
        """
        return np.arange(len(hard))


def query_vectors(encoder: BiEncoder, inputs: TextInputs, at: np.ndarray) -> np.ndarray:
    """Return the vectors float32 [n, dim] of the prepared queries at ``at`` int64 [n], without dropout."""
    start, length = encoder.template.cut(inputs.queries.lengths[at], encoder.room)
    return encoder.encode_spans(inputs.queries, Span(at, start, length))


def live_lists(lists: CandidateLists, encoder: BiEncoder, inputs: TextInputs, width: int | None) -> LiveLists:
    """Return ``lists`` with ``width`` live negatives each; None takes `LIVE_NEGATIVES`."""
    own = {name: getattr(lists, name) for name in CandidateLists.__dataclass_fields__ if name[0] != "_"}
    own |= {"negatives": 0, "first_stage": None}
    return LiveLists(**own, encoder=encoder, inputs=inputs, width=LIVE_NEGATIVES if width is None else width)


def static_run(
    encoder: BiEncoder, inputs: TextInputs, data: Collection, split: Split, query_at: dict[str, int], depth: int
) -> Run:
    """Return the best ``depth`` documents of each query of a split by the encoder before training, and the relevant.

    Every relevant document has its score, so that ``spare`` knows what scores like one.
    """
    vectors = documents_of(encoder, inputs)
    asked = query_vectors(encoder, inputs, np.array([query_at[query] for query in split.queries]))
    run = nearest(asked, vectors, list(split.queries), list(data.document_ids), depth)
    for query, vector in zip(split.queries, asked, strict=True):
        relevant = [d for d, grade in split.qrels.get(query, {}).items() if grade > 0 and d not in run[query]]
        if relevant:
            scores = vectors.of(np.array([data.position[d] for d in relevant])).similarities(vector)
            run[query] |= dict(zip(relevant, scores.tolist(), strict=True))
    return run


def documents_of(encoder: BiEncoder, inputs: TextInputs) -> EncodedDocuments:
    """Return the vectors of all documents: those that are held, or else made now."""
    return inputs.vectors or encoder.vectors_of(inputs.documents, np.arange(len(inputs.documents)))


def bottom(run: Run, depth: int, count: int, qrels: dict[str, dict[str, int | float]]) -> Run:
    """Return the last ``count`` unjudged documents of the best ``depth`` of each query, and the judged ones.

    >>> bottom({"q": {"a": 3.0, "b": 2.0, "c": 1.0, "d": 0.5}}, 3, 1, {"q": {"a": 1}})
    {'q': {'a': 3.0, 'c': 1.0}}
    """
    kept: Run = {}
    for query, row in run.items():
        best = sorted(row, key=lambda document: -row[document])[:depth]
        judged = qrels.get(query, {})
        last = set([document for document in best if document not in judged][-count:])
        kept[query] = {document: row[document] for document in best if document in last or document in judged}
    return kept
