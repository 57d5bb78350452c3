r"""NeuralNDCG: nDCG of a softly sorted list.

NeuralSort's soft permutation of n documents [n, n], row i for place i and column j for document j,

    P_{ij} = softmax_j [ ((n + 1 - 2 i) s_j - \sum_k |s_j - s_k|) / tau ],

scaled to equal row and column sums (Sinkhorn), sorts the gains:

    l            = - \frac{1}{idealDCG@k} \sum_{i \le k} \frac{(P g)_i}{\log_2(1 + i)}
    transposed   = - \frac{1}{idealDCG@k} \sum_j g_j (P^T d)_j,   d_i = 1 / \log_2(1 + i) for i \le k, else 0

with g = gain(y). The transposed form gives every document the expected discount of its place. In exact arithmetic the
two are one number; they are two readings of P.

Paper: P. Pobrotyn, R. Białobrzeski, NeuralNDCG: Direct Optimisation of a Ranking Metric via Differentiable Relaxation
of Sorting, 2021; A. Grover, E. Wang, A. Zweig, S. Ermon, Stochastic Optimization of Sorting Networks via Continuous
Relaxations, ICLR 2019.

*Deviations*: allRank scales the transposed permutation for the transposed loss and leaves it unscaled, or stops at
a tolerance, on request; here ``sinkhorn`` iterations are always done, on two vectors of scales, so that only one
matrix of [list, list] is kept. The transposed form leaves the last word to columns: P is scaled so that every
document's places sum to 1 exactly, where the plain form has every place's documents sum to 1 exactly; with
enough iterations the difference vanishes.
"""

import torch
from torch import Tensor

from lorank.errors import UsageError
from lorank.ranking.losses.lists import Lists, check_positive, clean, discounts, lowest, normalized_gains, tie_spans
from lorank.ranking.losses.registry import register_loss


@register_loss("neuralndcg", title="NeuralNDCG: Direct Optimisation of a Ranking Metric via Differentiable "
               "Relaxation of Sorting")
def neural_ndcg(
    scores: Tensor,
    labels: Tensor,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
    *,
    temperature: float = 1.0,
    k: int | None = None,
    gain: str = "exponential",
    transposed: bool = False,
    sinkhorn: int = 20,
) -> Tensor:
    """Return the negative mean over lists of nDCG of the softly sorted list.

    Args:
        scores: [batch, list].
        labels: Grades [batch, list], 0 and up.
        mask: bool [batch, list], True where there is a document.
        weights: [batch] or [batch, list]; a document's weight multiplies its gain.
        temperature: tau above 0; small sorts sharply.
        k: Relax nDCG@k instead of nDCG; 1 or more.
        gain: ``exponential`` (2^y - 1) or ``linear`` (y, trec_eval's nDCG).
        transposed: NeuralNDCG Transposed.
        sinkhorn: Iterations of Sinkhorn's scaling, 0 and up.

    Returns:
        A scalar between -1 and 0 (without weights).

    >>> neural_ndcg(torch.tensor([[2.0, 1.0, 3.0]]), torch.tensor([[1, 0, 3]]), temperature=0.01)   # well sorted
    tensor(-1.)
    """
    check_positive(k=k, temperature=temperature)
    if sinkhorn < 0:
        raise UsageError(f"sinkhorn must be 0 or more; got {sinkhorn}")
    lists = clean(scores, labels, mask, weights)
    gains = lists.weighted(normalized_gains(lists, gain, k)).unsqueeze(2)
    place = torch.arange(1, gains.shape[1] + 1, device=gains.device, dtype=gains.dtype)
    discount = discounts(place, k).expand(len(gains), -1).unsqueeze(2)
    with torch.autocast(gains.device.type, enabled=False):
        permutation = soft_permutation(lists, temperature)
        rows, columns = _sinkhorn(permutation, sinkhorn, last="columns" if transposed else "rows")
        if transposed:
            places = columns * (permutation.transpose(1, 2) @ (rows * discount))
            return lists.mean(-(gains * places).sum((1, 2)))
        return lists.mean(-(discount * rows * (permutation @ (columns * gains))).sum((1, 2)))


def soft_permutation(lists: Lists, temperature: float) -> Tensor:
    """Return NeuralSort's P, [batch, list (place), list (document)]: rows sum to 1, masked rows and columns are 0.

    >>> soft_permutation(clean(torch.tensor([[1.0, 2.0]]), torch.zeros(1, 2)), temperature=0.01).round()
    tensor([[[0., 1.],
             [1., 0.]]])
    """
    sizes = lists.mask.sum(1, keepdim=True)
    place = torch.arange(1, lists.scores.shape[1] + 1, device=sizes.device)
    slope = (sizes + 1 - 2 * place).to(lists.scores.dtype) / temperature
    logits = slope.unsqueeze(2) * lists.scores.unsqueeze(1) - (_distances(lists) / temperature).unsqueeze(1)
    return logits.masked_fill(~lists.mask.unsqueeze(1), lowest(logits)).softmax(2) * (
        lists.mask.unsqueeze(1) & (place <= sizes).unsqueeze(2))


def _distances(lists: Lists) -> Tensor:
    r"""\sum_k |s_j - s_k| for every document, [batch, list], from one sort."""
    ordered, order = lists.scores.masked_fill(~lists.mask, torch.inf).sort(dim=1)
    first, last = tie_spans(ordered.detach())
    sizes = lists.mask.sum(1, keepdim=True)
    ordered = torch.where(ordered < torch.inf, ordered, 0.0)
    upto = torch.nn.functional.pad(ordered.cumsum(1), (1, 0))
    below, above = upto.gather(1, first), upto[:, -1:] - upto.gather(1, last + 1)
    count = (first - (sizes - 1 - last)).to(ordered.dtype)
    return torch.zeros_like(ordered).scatter(1, order, ordered * count - below + above)


def _sinkhorn(permutation: Tensor, iterations: int, last: str) -> tuple[Tensor, Tensor]:
    """Return scales [batch, list, 1] of rows and of columns that make both sums of ``permutation`` 1."""
    rows, columns = torch.ones_like(permutation[:, :, :1]), torch.ones_like(permutation[:, :, :1])
    smallest = 1e-10      # allRank's; sums below it are not scaled up in full, so that slopes stay finite
    for _ in range(iterations):
        if last == "rows":
            columns = 1 / (permutation.transpose(1, 2) @ rows).clamp(min=smallest)
            rows = 1 / (permutation @ columns).clamp(min=smallest)
        else:
            rows = 1 / (permutation @ columns).clamp(min=smallest)
            columns = 1 / (permutation.transpose(1, 2) @ rows).clamp(min=smallest)
    return rows, columns
