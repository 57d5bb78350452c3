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
a tolerance, on request; here ``sinkhorn`` iterations are always done, on two vectors of scales, and value and gradient
are computed together, so that no matrix of [list, list] outlives its block of lists. The transposed form leaves the
last word to columns: P is scaled so that every document's places sum to 1 exactly, where the plain form has every
place's documents sum to 1 exactly; with enough iterations the difference vanishes.
"""

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from lorank.errors import UsageError
from lorank.ranking.losses.core.lists import (
    Lists,
    check_positive,
    clean,
    discounts,
    lowest_score,
    normalized_gains,
    tie_spans,
)
from lorank.ranking.losses.core.pairs import BLOCK
from lorank.ranking.losses.core.registry import register_loss


@register_loss(
    "neuralndcg", title="NeuralNDCG: Direct Optimisation of a Ranking Metric via Differentiable Relaxation of Sorting"
)
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
    gains = lists.weigh(normalized_gains(lists, gain, k))
    place = torch.arange(1, gains.shape[1] + 1, device=gains.device, dtype=gains.dtype)
    discount = discounts(place, k).expand(len(gains), -1)
    return lists.mean(
        _SoftlySorted.apply(  # type: ignore[no-untyped-call]
            lists.scores, _distances(lists), lists.mask, gains, discount, temperature, sinkhorn, transposed
        )
    )


def soft_permutation(lists: Lists, temperature: float) -> Tensor:
    """Return NeuralSort's P, [batch, list (place), list (document)]: rows sum to 1, masked rows and columns are 0.

    >>> soft_permutation(clean(torch.tensor([[1.0, 2.0]]), torch.zeros(1, 2)), temperature=0.01).round()
    tensor([[[0., 1.],
             [1., 0.]]])
    """
    return _permutation(lists.scores, _distances(lists), lists.mask, temperature)


def _permutation(scores: Tensor, distances: Tensor, mask: Tensor, temperature: float) -> Tensor:
    logits = _slopes(mask, temperature, scores.dtype).unsqueeze(2) * scores.unsqueeze(1)
    logits = (
        logits.sub_((distances / temperature).unsqueeze(1))
        if not logits.requires_grad
        else (logits - (distances / temperature).unsqueeze(1))
    )
    return logits.masked_fill(~mask.unsqueeze(1), lowest_score(logits)).softmax(2) * (
        mask.unsqueeze(1) & _is_place(mask).unsqueeze(2)
    )


def _slopes(mask: Tensor, temperature: float, dtype: torch.dtype) -> Tensor:
    """(n + 1 - 2 i) / tau for places i, [batch, list]."""
    place = torch.arange(1, mask.shape[1] + 1, device=mask.device)
    return (mask.sum(1, keepdim=True) + 1 - 2 * place).to(dtype) / temperature


def _is_place(mask: Tensor) -> Tensor:
    return torch.arange(1, mask.shape[1] + 1, device=mask.device) <= mask.sum(1, keepdim=True)


def _distances(lists: Lists) -> Tensor:
    r"""\sum_k |s_j - s_k| for every document, [batch, list], from one sort."""
    ordered, order = lists.fill(lists.scores, torch.inf).sort(dim=1)
    first, last = tie_spans(ordered.detach())
    sizes = lists.mask.sum(1, keepdim=True)
    ordered = torch.where(ordered < torch.inf, ordered, 0.0)
    upto = torch.nn.functional.pad(ordered.cumsum(1), (1, 0))
    below, above = upto.gather(1, first), upto[:, -1:] - upto.gather(1, last + 1)
    count = (first - (sizes - 1 - last)).to(ordered.dtype)
    return torch.zeros_like(ordered).scatter(1, order, ordered * count - below + above)


SMALLEST = 1e-10
"""allRank's; sums below it are not scaled up in full, so that slopes stay finite."""


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    """[batch, n, m] times [batch, m]; one matrix goes by the faster product of a matrix and a vector."""
    if len(matrix) == 1:
        return torch.mv(matrix[0], vector[0]).unsqueeze(0)
    return torch.bmm(matrix, vector.unsqueeze(2)).squeeze(2)


def scales(permutation: Tensor, iterations: int) -> tuple[list[Tensor], list[Tensor], list[tuple[Tensor, Tensor]]]:
    """Return Sinkhorn's scales of rows and of columns after every iteration, from 1 on, each [batch, n].

    An iteration evens the columns and then the rows, whose sums are the exact ones. The third list says, for every
    iteration, which columns' and rows' sums were large enough to be scaled up in full.
    """
    rows, columns = ([torch.ones_like(permutation[:, 0])] for _ in range(2))
    free: list[tuple[Tensor, Tensor]] = []
    for _ in range(iterations):
        under = _times(permutation.transpose(1, 2), rows[-1])
        columns.append(1 / under.clamp(min=SMALLEST))
        over = _times(permutation, columns[-1])
        rows.append(1 / over.clamp(min=SMALLEST))
        free.append((under >= SMALLEST, over >= SMALLEST))
    return rows, columns, free


def _sort_with_slope(permutation: Tensor, left: Tensor, right: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    r"""Return l = - (left * r)^T Q (c * right) of each matrix Q, and its derivative by Q, scales r and c included.

    Sinkhorn's steps  c = 1 / (Q^T r),  r = 1 / (Q c)  need products with vectors only, forwards and backwards, and the
    derivative by Q is a sum of outer products, 2 * iterations + 1 of them: one product of two thin matrices.
    """
    turned = permutation.transpose(1, 2)
    rows, columns, free = scales(permutation, iterations)
    head, tail = left * rows[-1], columns[-1] * right
    reached = _times(permutation, tail)
    value = -(head * reached).sum(1)
    by_row, by_column = -left * reached, -right * _times(turned, head)
    outer, inner = [-head], [tail]
    for step in range(iterations, 0, -1):
        under_free, over_free = free[step - 1]
        by_over = torch.where(over_free, -by_row * rows[step].square(), 0.0)
        by_column = by_column + _times(turned, by_over)
        by_under = torch.where(under_free, -by_column * columns[step].square(), 0.0)
        by_row, by_column = _times(permutation, by_under), torch.zeros_like(by_column)
        outer += [by_over, rows[step - 1]]
        inner += [columns[step], by_under]
    return value, torch.bmm(torch.stack(outer, 2), torch.stack(inner, 1))


class _SoftlySorted(torch.autograd.Function):
    """Minus the nDCG of each softly sorted list; value and derivative together, a block of lists at a time."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        scores: Tensor,
        distances: Tensor,
        mask: Tensor,
        gains: Tensor,
        discount: Tensor,
        temperature: float,
        sinkhorn: int,
        transposed: bool,
    ) -> Tensor:
        values = scores.new_zeros(len(scores))
        by_score, by_distance = torch.zeros_like(scores), torch.zeros_like(scores)
        step = max(1, BLOCK // max(1, scores.shape[1] ** 2))
        with torch.autocast(scores.device.type, enabled=False):
            for block in (slice(start, start + step) for start in range(0, len(scores), step)):
                soft = _permutation(scores[block], distances[block], mask[block], temperature)
                if transposed:
                    values[block], slope = _sort_with_slope(
                        soft.transpose(1, 2), gains[block], discount[block], sinkhorn
                    )
                    slope = slope.transpose(1, 2)
                else:
                    values[block], slope = _sort_with_slope(soft, discount[block], gains[block], sinkhorn)
                slope = slope.mul_(soft)  # through the softmax of each row
                slope = slope.sub_(soft.mul_(slope.sum(2, keepdim=True)))
                lean = _slopes(mask[block], temperature, scores.dtype)
                by_score[block] = _times(slope.transpose(1, 2), lean)
                by_distance[block] = slope.sum(1).div_(-temperature)
        ctx.save_for_backward(by_score.mul_(mask), by_distance.mul_(mask))
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, upstream: Tensor) -> tuple[Tensor | None, ...]:
        by_score, by_distance = ctx.saved_tensors  # type: ignore[attr-defined]
        return by_score * upstream.unsqueeze(1), by_distance * upstream.unsqueeze(1), *[None] * 6
