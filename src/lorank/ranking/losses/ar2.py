r"""AR2: a retriever that learns to find what fools a ranker, and to order as the ranker does.

    l = w A + (1 - w) K
    A = mean over draws d ~ p of (r_d - b) \log p(d),   p = softmax(s) over the documents that are not relevant
    r_d = mean over relevant i of \log \sigma(o_i - o_d)
    K = KL(softmax(o / T) || softmax(s)) over the relevant and the drawn documents

with s the retriever's scores and o the opponent's, a cross-encoder that is trained beside it to tell the relevant from
what was drawn. The gradient of A is the score-function form of that of E_p[r]: where the ranker is sure, r is 0, and
where it is fooled, r is far below 0, so going down makes likelier what fools it. K keeps the retriever near the ranker,
whose order it has to learn. b is the mean reward of a list's other draws, which has no influence on the expectation.

``draws`` says how often each document was drawn. `lorank.training.lists.adversarial` draws them from p itself
(``--negatives-from adversarial``); negatives of other sources count as drawn once. `lorank.training.hooks.alternation`
trains the opponent.

Paper: Zhang, Gong, Shen, Lv, Duan, Chen 2021, *Adversarial Retriever-Ranker for dense text retrieval*,
arXiv:2110.03611.

*Deviations*: A is a mean over draws and lists, where the published code sums it, so that w does not depend on the size
of a batch; the published code sets w = 0.5 in its scripts and has 0 as its default. The published sum has no b
(``baseline=False``), and the reward log 0.5 of the relevant document itself; here it is not drawn. In the paper the
two models take turns of many steps, between which documents are encoded anew; here they take turns in each step, and
only the vectors of queries are adapted where negatives are adversarial, so that no vector is ever stale. From a ranker
that stands still, as in the paper's turns, the divergence falls at w = 0.5 and ends higher at w = 1, where it may rise;
from one that moves in every step it need not fall, since the ranker grows surer.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from lorank.errors import UsageError
from lorank.ranking.losses.core.lists import Lists, check_positive, clean
from lorank.ranking.losses.core.registry import register_loss


@register_loss(
    "ar2",
    title="Adversarial Retriever-Ranker for dense text retrieval",
    area="retrieve",
    requires=("opponent", "draws"),
)
def ar2(
    scores: Tensor,
    labels: Tensor,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
    *,
    opponent: Tensor,
    draws: Tensor,
    weight: float = 0.5,
    temperature: float = 1.0,
    baseline: bool = True,
    opponent_rate: float = 1.0,
    warmup: int = 20,
) -> Tensor:
    """Return the mean over lists of the adversarial term and the divergence from the opponent.

    Args:
        scores: The retriever's scores [batch, list].
        labels: [batch, list]; documents above 0 are relevant.
        mask: bool [batch, list], True where there is a document.
        weights: [batch] or [batch, list]; only those of lists are used.
        opponent: The ranker's scores [batch, list], read where a document is relevant or drawn.
        draws: How often each document was drawn [batch, list], 0 or more.
        weight: w, from 0 to 1; 0 is distillation alone.
        temperature: T above 0, of the ranker's distribution.
        baseline: Whether rewards are compared with those of the list's other draws.
        opponent_rate: The opponent's learning rate as a share of the run's, above 0; the training loop reads it.
        warmup: The steps that the opponent takes before the run's first one, 0 or more; the training loop reads it.

    Returns:
        A scalar.

    Raises:
        UsageError: For a number out of its range.

    >>> scores, labels = torch.zeros(1, 3), torch.tensor([[1.0, 0.0, 0.0]])
    >>> sure = torch.tensor([[9.0, -9.0, -9.0]])
    >>> ar2(scores, labels, opponent=sure, draws=torch.tensor([[0.0, 1.0, 1.0]]), weight=0.0)   # log 3
    tensor(1.0986)
    """
    check_positive(temperature=temperature, opponent_rate=opponent_rate)
    if not 0 <= weight <= 1 or warmup < 0:
        raise UsageError(f"weight must be from 0 to 1, warmup 0 or more; got {weight} and {warmup}")
    lists = clean(scores, labels, mask, weights)
    relevant = lists.mask & (lists.labels > 0)
    drawn = torch.where(lists.mask & ~relevant, _beside(lists, "draws", draws, scores), 0.0)
    counted = relevant.any(1) & (drawn > 0).any(1)
    read = relevant | (drawn > 0)
    opponent = torch.where(read, _beside(lists, "opponent", opponent, scores), 0.0)
    fooled = _fooled(lists, opponent, relevant, drawn, baseline)
    apart = _apart(lists, opponent, read, temperature)
    return lists.mean(weight * fooled + (1 - weight) * apart, counted)


def rewards(opponent: Tensor, relevant: Tensor) -> Tensor:
    """Return the mean over relevant i of log sigmoid(o_i - o_d) of each document d, [batch, list].

    Args:
        opponent: The ranker's scores o [batch, list].
        relevant: bool [batch, list].

    >>> rewards(torch.zeros(1, 2), torch.tensor([[True, False]]))     # -log 2: it cannot tell them apart
    tensor([[-0.6931, -0.6931]])
    """
    ahead = F.logsigmoid(opponent.unsqueeze(2) - opponent.unsqueeze(1))
    return (ahead * relevant.unsqueeze(2)).sum(1) / relevant.sum(1, keepdim=True).clamp(min=1)


def _beside(lists: Lists, name: str, given: Tensor, scores: Tensor) -> Tensor:
    """Return what came beside the scores in the shape and type of the lists, without a gradient."""
    if given.shape != scores.shape:
        raise UsageError(f"{name} must be {list(scores.shape)} as the scores are; got {list(given.shape)}")
    return F.pad(given.detach(), (0, lists.scores.shape[1] - given.shape[1])).to(lists.scores)


def _fooled(lists: Lists, opponent: Tensor, relevant: Tensor, drawn: Tensor, baseline: bool) -> Tensor:
    """Return A of each list, [batch]."""
    count = drawn.sum(1, keepdim=True)
    share = drawn / count.clamp(min=1)
    reward = rewards(opponent, relevant)
    if baseline:
        others = (count - 1).clamp(min=1)
        reward = torch.where(count > 1, (reward - (share * reward).sum(1, keepdim=True)) * count / others, reward)
    return (share * reward * _log_chances(lists.scores, lists.mask & ~relevant)).sum(1)


def _apart(lists: Lists, opponent: Tensor, read: Tensor, temperature: float) -> Tensor:
    """Return K of each list, [batch]."""
    ranker, retriever = _log_chances(opponent / temperature, read), _log_chances(lists.scores, read)
    return torch.where(read, ranker.exp() * (ranker - retriever), 0.0).sum(1)


def _log_chances(scores: Tensor, among: Tensor) -> Tensor:
    """Return log softmax among some documents [batch, list], 0 for the others."""
    lowest = torch.finfo(scores.dtype).min / 4
    found = scores.masked_fill(~among, lowest) - scores.masked_fill(~among, lowest).logsumexp(1, keepdim=True)
    return torch.where(among, found, 0.0)
