r"""E2Rank's joint loss: contrast for queries, RankNet for listwise prompts.

    l = InfoNCE(s / T) + w RankNet(\sigma s)

The first part is the mean over the plain queries of a batch, with the other lists' documents as negatives where lists
are shared; the second is the mean over their *listwise twins*: the same lists, each asked by the prompt that names the
query and the documents of its first stage (`lorank.ranking.strategies.e2rank`), over the twin's own documents alone.
``listwise`` bool [batch, list] says where these stand. The training loop adds a twin for each query, so that one model
learns to retrieve by a query and to rerank by its prompt; ``lorank rerank --strategy e2rank`` does the latter.

The published constants are T = 0.03 and w = 2 on cosines, and a scale of 10 on RankNet's. A bi-encoder's scores are
cosines / 0.05 where nothing else is said, hence 0.03 / 0.05 and 10 * 0.05 here.

Paper: Liu et al., E^2Rank: Your Text Embedding can Also be an Effective and Efficient Listwise Reranker, 2025.

*Deviations*: RankNet learns the order of the labels; the paper has that of a large language model, which ``lists``
with graded labels can bring. A query and its twin need not stand in one batch. Pairs are averaged per list.
"""

import torch
from torch import Tensor

from lorank.errors import UsageError
from lorank.ranking.losses.core.lists import check_positive, clean
from lorank.ranking.losses.core.registry import enter_loss
from lorank.ranking.losses.ranknet import ranknet
from lorank.ranking.losses.softmax import softmax


@enter_loss("e2rank", requires=("listwise",))
def e2rank(
    scores: Tensor,
    labels: Tensor,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
    *,
    listwise: Tensor,
    weight: float = 2.0,
    temperature: float = 0.6,
    sigma: float = 0.5,
    feedback: int = 20,
    words: int = 1024,
) -> Tensor:
    """Return the contrastive loss of the plain lists and ``weight`` times RankNet's of the listwise ones.

    Args:
        scores: [batch, list].
        labels: [batch, list].
        mask: bool [batch, list], True where there is a document.
        weights: [batch] or [batch, list].
        listwise: bool [batch, list], True at the own documents of a list that is asked by its prompt.
        weight: w, 0 or more; 0 is the contrastive loss alone.
        temperature: T above 0, by which the scores are divided once more.
        sigma: The steepness of RankNet's logistic function, above 0.
        feedback: The number of documents in a prompt, 1 or more; the training loop reads it.
        words: The most words of each, 1 or more; the training loop reads it, and cuts further where a prompt is long.

    Returns:
        A scalar, 0 or more.

    Raises:
        UsageError: For a number out of its range.

    >>> import math
    >>> scores, labels = torch.zeros(2, 2), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    >>> value = e2rank(scores, labels, listwise=torch.tensor([[False, False], [True, True]]))
    >>> math.isclose(value, 3 * math.log(2), rel_tol=1e-6)
    True
    """
    check_positive(temperature=temperature, sigma=sigma)
    if weight < 0 or feedback < 1 or words < 1:
        raise UsageError(
            f"weight must be 0 or above, feedback and words 1 or above, got {weight}, {feedback} and {words}"
        )
    known = torch.ones_like(listwise) if mask is None else mask
    clean(scores, labels, known, weights)  # a document that neither part reads is checked too
    plain = known & ~(listwise & known).any(1, keepdim=True)
    contrast = softmax(scores, labels, plain, weights, temperature=temperature)
    return contrast + weight * ranknet(scores, labels, known & listwise, weights, sigma=sigma)
