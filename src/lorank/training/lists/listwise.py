"""Listwise twins: for each training query the same list again, asked by a prompt that names its first-stage documents.

A loss that requires ``listwise`` (`lorank.ranking.losses.e2rank`) learns from both. A twin's id is its query's with a
mark that no id of a file can hold.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lorank.data import order_documents
from lorank.data.candidates import TrainingList
from lorank.data.collection import Collection, Split
from lorank.errors import UsageError
from lorank.ranking.losses import Loss, loss_options, requirements_of
from lorank.ranking.scorers.bi_encoder import BiEncoder
from lorank.ranking.scorers.ranker import TrainableRanker
from lorank.ranking.strategies.e2rank import fitting_prompt
from lorank.ranking.types import Run
from lorank.training.lists.batches import ListBatch
from lorank.training.settings import Recipe

LISTWISE = "listwise"
"""What a loss requires that learns from twins."""
_MARK = "\tlistwise"


def takes_twins(loss: Loss) -> bool:
    """Return whether a loss learns from listwise twins."""
    return LISTWISE in requirements_of(loss)


def check_twins(loss: Loss, ranker: TrainableRanker, data: Collection, recipe: Recipe) -> None:
    """Raise UsageError where a loss learns from listwise twins and ranker, data or lists do not allow them."""
    if not takes_twins(loss):
        return
    name, lists = recipe.loss.name, recipe.lists
    if not isinstance(ranker, BiEncoder):
        raise UsageError(f"loss {name!r} trains an embedding model to read lists; use --kind bi-encoder")
    for what, given in (
        ("a click log", data.train.impressions is not None),
        (f"lists.negatives_from = {lists.negatives_from!r}", lists.negatives_from not in ("first-stage", "bottom")),
    ):
        if given:
            raise UsageError(f"loss {name!r} does not go with {what}; leave it out, or take another loss")


def make_twins(ranker: BiEncoder, data: Collection, split: Split, run: Run, recipe: Recipe) -> tuple[Split, Run]:
    """Return the twins of a split's queries, as a split with their judgments, and their candidates.

    Args:
        ranker: The bi-encoder, which bounds the length of a prompt.
        data: The collection of texts.
        split: The queries and their judgments.
        run: The candidates of each query; the prompt names the best of them.
        recipe: The recipe, whose loss says how many documents a prompt names.
    """
    options = {**loss_options(recipe.loss.name), **recipe.loss.options}
    feedback, words = int(options["feedback"]), int(options["words"])
    write = fitting_prompt(ranker, words)
    queries = {}
    for query, text in split.queries.items():
        first = order_documents(run.get(query, {}))[:feedback]
        queries[query + _MARK] = write(text, [str(data.documents[data.position[d]]) for d in first])
    qrels = {query + _MARK: judged for query, judged in split.qrels.items()}
    return replace(split, queries=queries, qrels=qrels), {query + _MARK: row for query, row in run.items()}


def own_places(lists: Sequence[TrainingList], batch: ListBatch) -> Tensor:
    """Return where the own documents of twins stand, bool [batch, list]."""
    rows = []
    for each, documents in zip(lists, batch.documents.tolist()):
        own = set(each.documents.tolist()) if each.query_id.endswith(_MARK) else set()
        rows.append([document in own for document in documents])
    return torch.tensor(rows, dtype=torch.bool).view(batch.documents.shape) & batch.mask
