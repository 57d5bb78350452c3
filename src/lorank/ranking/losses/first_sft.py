r"""The loss by which FIRST is tuned: say the best document's identifier, and put the others' logits in order.

    l = -\log P(best) + \lambda \sum_{y_i > y_j} \frac{1}{r_i + r_j} \log(1 + \exp(s_j - s_i))

with s the log-probabilities of the documents' identifiers as the first token (a :class:`ReplyRanker` gives them; the
difference of two is that of their logits) and r the ranks by label.

Paper: Gangi Reddy et al., FIRST: Faster Improved Listwise Reranking with Single Token Decoding, 2024.

*Deviations*: the language-model term is that of the first token, which is all that FIRST decodes; the paper's runs over
the whole order. Documents of equal label make no pair and share the mean of their ranks; several best ones share the
first term.
"""

import torch
from torch import Tensor

from lorank.errors import UsageError
from lorank.ranking.losses.core.lists import clean, label_ranks, normalise
from lorank.ranking.losses.core.pairs import ordered_pair_weights, pairwise, sides
from lorank.ranking.losses.core.registry import register_loss


@register_loss(
    "first-sft",
    title="FIRST: Faster Improved Listwise Reranking with Single Token Decoding (its loss)",
    area="losses.supervised",
)
def first_sft(
    scores: Tensor,
    labels: Tensor,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
    *,
    strength: float = 0.1,
    generation: float = 1.0,
) -> Tensor:
    """Return the mean over lists of FIRST's loss.

    Args:
        scores: Log-probabilities of the identifiers [batch, list].
        labels: Grades, or a teacher's order as n - rank, [batch, list].
        mask: bool [batch, list], True where there is a document.
        weights: [batch] or [batch, list]; a pair has the weight of its better document.
        strength: lambda, 0 and up.
        generation: Weight of the language-model term, 0 and up.

    >>> import math
    >>> value = first_sft(torch.tensor([[-1.0, -2.0]]), torch.tensor([[1.0, 0.0]]), strength=3.0)
    >>> math.isclose(value, 1 + 3 / 3 * math.log1p(math.exp(-1)), rel_tol=1e-6)
    True
    """
    if strength < 0 or generation < 0 or strength + generation == 0:
        raise UsageError(f"strength and generation must be 0 or more, and not both 0; got {strength}, {generation}")
    lists = clean(scores, labels, mask, weights)
    place = label_ranks(lists)
    winners, ordered = ordered_pair_weights(lists)

    def early(block: slice) -> Tensor:
        place_i, place_j = sides(place, winners, block)
        return ordered(block).div_(place_i + place_j)

    best = lists.mask & (lists.labels == lists.fill(lists.labels, -torch.inf).amax(1, keepdim=True))
    share = lists.weigh(normalise(best.to(lists.scores)))
    order = pairwise(lists.scores, winners, early, 1.0)
    return lists.mean(strength * order - generation * (share * lists.scores).sum(1))
