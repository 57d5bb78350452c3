r"""The inverted hinge: unlearn an answer by lowering its probability and raising the runner-up's alone.

    l = 1 + p_t - max_{v: y_v = 0} p_v,    p = softmax(s),    t a document (or token) with a label above 0

Gradient ascent on log p_t has no lower bound and spreads probability over everything; here the loss is bounded by
0 and 2, the gradient on t falls with p_t, and of all others only the runner-up gains. The scores of one list may be
a ranker's, or a language model's logits over its vocabulary with a one at the token to forget. It is no ranking
loss: it is smallest where the labelled document is least likely, so it is not among ``LOSSES``.

Cha et al., Towards Robust and Parameter-Efficient Knowledge Unlearning for LLMs, 2024, arXiv:2408.06621. The start
that goes with it is ``loku``. Data to retain enters as an ordinary loss beside this one.

*Deviations*: the mean over several labelled documents of a list; the paper has one token.
"""

import torch
from torch import Tensor

from lorank.ranking.losses.core.lists import clean


def inverted_hinge(scores: Tensor, labels: Tensor, mask: Tensor | None = None, weights: Tensor | None = None) -> Tensor:
    """Return the mean over lists of the mean inverted hinge of their labelled documents.

    Args:
        scores: [batch, list].
        labels: [batch, list]; those above 0 are to be forgotten.
        mask: bool [batch, list], True where there is a document.
        weights: [batch] or [batch, list].

    Returns:
        A scalar from 0 to 2, the mean over lists that have a document to forget and another beside it.

    >>> inverted_hinge(torch.tensor([[0.0, 0.0, 0.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0, 0.0]])).item()
    1.0
    """
    lists = clean(scores, labels, mask, weights)
    p = torch.softmax(lists.scores.masked_fill(~lists.mask, -torch.inf), -1).masked_fill(~lists.mask, 0.0)
    chosen, others = (lists.labels > 0) & lists.mask, (lists.labels == 0) & lists.mask
    runner_up = torch.where(others, p, 0.0).amax(-1, keepdim=True)
    shortfall = torch.where(chosen, 1 + p - runner_up, 0.0)
    return lists.mean(shortfall.sum(-1) / chosen.sum(-1).clamp_min(1), chosen.any(-1) & others.any(-1))
