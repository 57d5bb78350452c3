"""What every loss needs to know of a batch of lists: clean values, who carries signal, ranks, gains, discounts.

Shapes: ``scores``, ``labels`` and ``mask`` are [batch, list]; ``mask`` is True where there is a document.
A list *carries signal* when it holds two documents with different labels; the others contribute 0. Every loss
is the mean over the lists that carry signal,

    loss = (1 / max(1, #signal)) * sum over lists b with signal of  w_b * l_b,

so weights scale a list's (or document's) part and never change the denominator.
"""

import math
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from lorank.errors import UsageError, unknown_name

T = TypeVar("T")


@dataclass(frozen=True)
class Lists:
    """A batch of lists, safe to compute with: masked places hold 0 and let no gradient through.

    ``scores`` and ``labels`` are float32 (float64 where the scores are) and may be the caller's own tensors, so they
    are never written to; ``signal`` is bool [batch]. Weights that were given for lists are in ``list_weights``
    [batch], those for documents in ``item_weights`` [batch, list]; None where not given. ``full`` says that no place
    is known to be masked, which saves the work of it.
    """

    scores: Tensor
    labels: Tensor
    mask: Tensor
    signal: Tensor
    item_weights: Tensor | None
    list_weights: Tensor | None
    full: bool = False

    @property
    def sizes(self) -> Tensor:
        """The number of documents of each list, at least 1 so that it can divide; [batch]."""
        return self.mask.sum(1).clamp(min=1)

    def fill(self, values: Tensor, filling: float) -> Tensor:
        """Return ``values`` [batch, list] with ``filling`` where masked; the very tensor where nothing is."""
        return values if self.full else values.masked_fill(~self.mask, filling)

    def shares(self, values: Tensor, temperature: float = 1.0) -> Tensor:
        """Return the softmax of ``values / temperature`` over the documents of each list, [batch, list]."""
        return self._temper(values, temperature).softmax(1)

    def log_shares(self, values: Tensor, temperature: float = 1.0) -> Tensor:
        """Return the logarithm of ``shares``; far below any other, yet finite, where masked."""
        return self._temper(values, temperature).log_softmax(1)

    def _temper(self, values: Tensor, temperature: float) -> Tensor:
        return self.fill(values if temperature == 1 else values / temperature, lowest_score(values))

    def weigh(self, terms: Tensor) -> Tensor:
        """Return ``terms`` [batch, list] times the documents' weights, 0 where masked."""
        return self.fill(terms if self.item_weights is None else terms * self.item_weights, 0.0)

    def parts(self, counted: Tensor | None = None) -> Tensor:
        """Return the factor with which each list's value enters ``mean``, [batch]; 0 for lists that do not count."""
        counted = self.signal if counted is None else counted
        part = counted.to(self.scores.dtype) / counted.sum().clamp(min=1)
        return part if self.list_weights is None else part * self.list_weights

    def mean(self, per_list: Tensor, counted: Tensor | None = None) -> Tensor:
        """Return the mean of ``per_list`` [batch] over the ``counted`` lists (default: those with signal)."""
        counted = self.signal if counted is None else counted
        return torch.dot(torch.where(counted, per_list, 0.0), self.parts(counted).to(per_list.dtype))

    def mean_of_documents(self, terms: Tensor, keep_equal: bool = False) -> Tensor:
        """Return the mean over lists of the weighted ``terms`` [batch, list] averaged over a list's documents.

        With ``keep_equal`` all lists that hold a document are counted.
        """
        return self.mean(self.weigh(terms).sum(1) / self.sizes, self.mask.any(1) if keep_equal else None)


def clean(scores: Tensor, labels: Tensor, mask: Tensor | None = None, weights: Tensor | None = None) -> Lists:
    """Return the batch in computing precision, with masked values replaced by 0.

    Args:
        scores: [batch, list], any floating type; half precision is computed in float32.
        labels: [batch, list], any finite numbers.
        mask: bool [batch, list], True where there is a document; None means everywhere.
        weights: None, [batch] (one a list) or [batch, list] (one a document), 0 and up.

    Raises:
        UsageError: Where the shapes do not fit each other, and for labels that are no finite numbers.

    >>> clean(torch.tensor([[1.0, float("nan")]]), torch.tensor([[3, -1]]), torch.tensor([[True, False]])).scores
    tensor([[1., 0.]])
    """
    full = mask is None
    mask = torch.ones_like(scores, dtype=torch.bool) if mask is None else mask
    _check_shapes(scores, labels, mask, weights)
    if scores.shape[1] == 0:
        scores, labels, mask = F.pad(scores, (0, 1)), F.pad(labels, (0, 1)), F.pad(mask, (0, 1))
        weights = F.pad(weights, (0, 1)) if weights is not None and weights.dim() == 2 else weights
        full = False
    full = full or (mask.device.type == "cpu" and bool(mask.all()))  # elsewhere the answer would have to be awaited
    dtype = torch.float64 if scores.dtype == torch.float64 else torch.float32

    def present(values: Tensor, other: float = 0.0) -> Tensor:
        return values.to(dtype) if full else values.to(dtype).masked_fill(absent, other)

    absent = ~mask
    highest, lowest = present(labels, -torch.inf).amax(1), present(labels, torch.inf).amin(1)
    _check_finite(highest, lowest)
    signal = highest > lowest
    item_weights = list_weights = None
    if weights is not None and weights.dim() == 2:
        item_weights = present(weights)
    elif weights is not None:
        list_weights = weights.to(dtype)
    return Lists(present(scores), present(labels), mask, signal, item_weights, list_weights, full)


def _check_shapes(scores: Tensor, labels: Tensor, mask: Tensor, weights: Tensor | None) -> None:
    if scores.dim() != 2 or labels.shape != scores.shape or mask.shape != scores.shape:
        raise UsageError(
            f"scores, labels and mask must share one shape [batch, list]; got {list(scores.shape)}, "
            f"{list(labels.shape)}, {list(mask.shape)}"
        )
    if not scores.dtype.is_floating_point or mask.dtype != torch.bool:
        raise UsageError(f"scores must be floating point and mask bool; got {scores.dtype} and {mask.dtype}")
    if weights is not None and weights.shape not in (scores.shape, scores.shape[:1]):
        raise UsageError(f"weights must be [batch] or [batch, list] = {list(scores.shape)}; got {list(weights.shape)}")


def _check_finite(highest: Tensor, lowest: Tensor) -> None:
    """Raise UsageError for a label that is NaN or infinite; lists without a document have highest below lowest."""
    if highest.device.type != "cpu":  # the answer would have to be awaited; readers of data refuse such labels too
        return
    bad = highest.isnan() | (highest == torch.inf) | ((lowest == -torch.inf) & (highest >= lowest))
    bad |= (highest == -torch.inf) & (lowest == -torch.inf)
    if bool(bad.any()):
        raise UsageError(
            f"the labels of list {int(bad.int().argmax())} of the batch hold NaN or infinity (in float32, where labels "
            "above 3e38 are infinite too); labels are finite numbers"
        )


LARGEST = {torch.float16: 2.0**12}
"""The largest label whose square's derivative fits in the scores' precision, as far as it is below ``_LARGEST``."""

_LARGEST = 1e15


def check_label_size(lists: Lists, scores: Tensor, largest: float | None = None) -> None:
    """Raise UsageError where a label is too large for a loss that computes with labels themselves, not their order.

    ``scores`` are those that were given, in whose precision the gradient has to fit; ``largest`` replaces the bound
    that a squared difference has.
    """
    if lists.labels.device.type != "cpu" or not lists.labels.numel():
        return
    bound = min(LARGEST.get(scores.dtype, _LARGEST), _LARGEST) if largest is None else largest
    reached = float(lists.labels.detach().abs().max())
    if reached > bound:
        kind = str(scores.dtype).removeprefix("torch.")
        raise UsageError(
            f"the labels reach {reached:g}, and this loss computes with them up to {bound:g} for scores in {kind}; "
            "divide the labels by a constant"
        )


def lowest_score(tensor: Tensor) -> float:
    """Return a finite number below any sensible score, for places that must not win a maximum."""
    return torch.finfo(tensor.dtype).min / 4


def tie_spans(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return for every position of sorted ``values`` [batch, list] the first and last position of its equals.

    >>> tie_spans(torch.tensor([[5, 5, 2, 1]]))
    (tensor([[0, 0, 2, 3]]), tensor([[1, 1, 2, 3]]))
    """
    count = values.shape[1]
    place = torch.arange(count, device=values.device).expand(values.shape)
    change = values[:, 1:] != values[:, :-1]
    edge = torch.ones_like(values[:, :1], dtype=torch.bool)
    first = torch.where(torch.cat([edge, change], 1), place, 0).cummax(1).values
    last = torch.where(torch.cat([change, edge], 1), place, count - 1).flip(1).cummin(1).values.flip(1)
    return first, last


def ranks(lists: Lists) -> Tensor:
    """Return the 1-based rank of every document by score, [batch, list], masked ones behind all others.

    Equal scores are ranked with the less relevant document first, so that a tie counts as an error; documents
    equal in score and label share the mean of their ranks. Ranks therefore never depend on the order in which
    the documents were given.

    >>> ranks(clean(torch.tensor([[0.5, 2.0, 0.5, 0.5]]), torch.tensor([[1, 0, 0, 1]])))
    tensor([[3.5000, 1.0000, 2.0000, 3.5000]])
    """
    scores = lists.fill(lists.scores.detach(), -torch.inf)
    by_label = lists.labels.argsort(dim=1, stable=True)
    order = by_label.gather(1, scores.gather(1, by_label).argsort(dim=1, descending=True, stable=True))
    score_first, score_last = tie_spans(scores.gather(1, order))
    label_first, label_last = tie_spans(lists.labels.gather(1, order))
    first, last = torch.maximum(score_first, label_first), torch.minimum(score_last, label_last)
    return _middles(order, first, last).to(lists.scores.dtype)


def canonicalise(lists: Lists, by: str = "score") -> Lists:
    """Return the lists in an order of their own, the same however their documents were given.

    Args:
        lists: The batch.
        by: ``score``: by score, then by label with the less relevant first; ``label``: by label, then by score.
            Both descending, masked places last.

    Documents equal in score and label take the mean of their scores and of their weights, so that a gradient
    spreads evenly over them; whatever depends on places (noise, a sorting network) thus stays equivariant.

    >>> canonicalise(clean(torch.tensor([[1.0, 3.0, 2.0]]), torch.tensor([[1, 0, 1]])), by="label").scores
    tensor([[2., 1., 3.]])
    """
    scores = lists.fill(lists.scores.detach(), -torch.inf)
    labels = lists.fill(lists.labels, -torch.inf)
    keys = {"score": [labels.neg(), scores], "label": [scores, labels]}[by]
    order = keys[0].argsort(dim=1, descending=True, stable=True)
    order = order.gather(1, keys[1].gather(1, order).argsort(dim=1, descending=True, stable=True))
    order = order.gather(1, lists.mask.gather(1, order).to(torch.uint8).argsort(dim=1, descending=True, stable=True))
    labels, scores = labels.gather(1, order), scores.gather(1, order)
    first = torch.maximum(tie_spans(scores)[0], tie_spans(labels)[0])
    count = torch.zeros_like(labels).scatter_add_(1, first, torch.ones_like(labels)).gather(1, first)

    def shared(values: Tensor) -> Tensor:
        sums = torch.zeros_like(values).scatter_add(1, first, values.gather(1, order))
        return sums.gather(1, first) / count

    weights = None if lists.item_weights is None else shared(lists.item_weights)
    return Lists(
        shared(lists.scores),
        lists.labels.gather(1, order),
        lists.mask.gather(1, order),
        lists.signal,
        weights,
        lists.list_weights,
        lists.full,
    )


def label_ranks(lists: Lists) -> Tensor:
    """Return the 1-based rank of every document by label, ties at their mean rank, [batch, list]; masked ones last.

    >>> label_ranks(clean(torch.zeros(1, 3), torch.tensor([[2, 0, 2]])))
    tensor([[1.5000, 3.0000, 1.5000]])
    """
    descending, order = lists.fill(lists.labels, -torch.inf).sort(dim=1, descending=True)
    return _middles(order, *tie_spans(descending)).to(lists.scores.dtype)


def _middles(order: Tensor, first: Tensor, last: Tensor) -> Tensor:
    """Return for every document, from the first and last place of its equals, the rank in their middle."""
    middle = 1 + (first + last) / 2
    return torch.zeros_like(middle).scatter_(1, order, middle)


def discounts(rank: Tensor, k: int | None = None) -> Tensor:
    """Return 1 / log2(1 + rank), and 0 for ranks beyond ``k``.

    >>> discounts(torch.tensor([1.0, 3.0, 7.0]), k=3)
    tensor([1.0000, 0.5000, 0.0000])
    """
    value = 1 / torch.log2(1 + rank)
    return value if k is None else torch.where(rank <= k, value, 0.0)


def exponential_gain(labels: Tensor, largest: Tensor | float = 0.0) -> Tensor:
    """Return (2^label - 1) / 2^largest, the gain of most learning-to-rank papers, without an overflow.

    >>> exponential_gain(torch.tensor([[2.0, 1.0]]), torch.tensor([[2.0]]))
    tensor([[0.7500, 0.2500]])
    """
    return -torch.exp2(labels - largest) * torch.expm1(-math.log(2) * labels)


def linear_gain(labels: Tensor, largest: Tensor | float = 1.0) -> Tensor:
    """Return label / largest, the gain of trec_eval's nDCG; 0 where the largest is 0."""
    return labels / torch.where(torch.as_tensor(largest) > 0, largest, 1.0)


GAINS = {"exponential": exponential_gain, "linear": linear_gain}
"""Gains [batch, list] of labels from 0 up, relative to the largest of a list [batch, 1]: a factor that cancels."""


def ideal_dcg(gains: Tensor, k: int | None = None) -> Tensor:
    """Return the largest DCG@k that ``gains`` [batch, list] (0 where masked) can reach, [batch].

    >>> ideal_dcg(torch.tensor([[0.0, 1.0, 3.0]]))   # 3 + 1 / log2(3)
    tensor([3.6309])
    """
    best = gains.sort(dim=1, descending=True).values
    rank = torch.arange(1, gains.shape[1] + 1, device=gains.device, dtype=gains.dtype)
    return (best * discounts(rank, k)).sum(1)


def normalized_gains(lists: Lists, gain: str, k: int | None) -> Tensor:
    """Return gain / ideal DCG@k for every document, so that a list's DCG@k becomes its nDCG@k; [batch, list].

    A label below 0 has the gain 0, as in trec_eval.
    """
    positive = lists.labels.clamp(min=0)
    gains = choose("gain", gain, GAINS)(positive, positive.amax(1, keepdim=True))
    ideal = ideal_dcg(gains, k)
    return gains / torch.where(ideal > 0, ideal, 1.0).unsqueeze(1)


def normalise(values: Tensor) -> Tensor:
    """Return values [batch, list] over their list's sum, 0 where that is 0; values below 0 count as 0.

    >>> normalise(torch.tensor([[1.0, 3.0], [0.0, 0.0]]))
    tensor([[0.2500, 0.7500],
            [0.0000, 0.0000]])
    """
    values = values.clamp(min=0)
    total = values.sum(1, keepdim=True)
    return values / total.where(total > 0, 1.0)


def choose(option: str, name: str, known: dict[str, T]) -> T:
    """Return ``known[name]``; raise UsageError naming the option where there is none."""
    if name not in known:
        raise unknown_name(option, name, known)
    return known[name]


def check_positive(**options: float | None) -> None:
    """Raise UsageError for an option that is given and not above 0."""
    for name, value in options.items():
        if value is not None and not value > 0:
            raise UsageError(f"{name} must be above 0; got {value}")
