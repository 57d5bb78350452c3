r"""The likelihood of an order of grades, which ListMLE and p-ListMLE share; value and gradient together.

    l = \sum_i a_i [ \log Z_{g(i)} - s_i ],   Z_g = \sum_{j : g(j) \ge g} \exp(s_j)
    \partial l / \partial s_i = \exp(s_i) \sum_{g \le g(i)} A_g / Z_g - a_i,   A_g = \sum_{i : g(i) = g} a_i

with g(i) the grade of document i counted from the best. Documents are added up grade by grade, so that no list needs
to be put in order, and cumulative sums run over grades.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from lorank.ranking.losses.core.known_gradient import with_gradient
from lorank.ranking.losses.core.lists import Lists, lowest_score

MOST_GRADES = 64
"""Whole labels of a list that span less are grades as they are."""
SPREAD = 60.0
"""The range of a list's scores up to which their exponentials are added up as they are: far from float32's ends."""


def negative_log_likelihood(lists: Lists, last_grade: bool, by_place: bool) -> Tensor:
    """Return l of each list, [batch]; differentiable once, by ``lists.scores``.

    Args:
        lists: The batch.
        last_grade: Count the terms of a list's lowest grade too.
        by_place: Multiply each term by p-ListMLE's a(r).
    """
    with torch.no_grad():
        grade, count = grades_from_the_best(lists)
        own = lists.weigh(torch.ones_like(lists.scores))
        if by_place:
            own = own * _place_weights(lists, grade, count).gather(1, grade)
        if not last_grade:
            own = own.masked_fill(lists.labels == lists.fill(lists.labels, torch.inf).amin(1, keepdim=True), 0.0)
        scores = lists.fill(lists.scores, lowest_score(lists.scores))
        scores = scores - scores.amax(1, keepdim=True)
        near = not scores.numel() or float(lists.fill(scores, 0.0).amin()) > -SPREAD
        log_z, pull = (_near if near else _far)(scores, grade, count, _by_grade(own, grade, count))
        values = log_z.gather(1, grade).sub_(scores).mul_(own).sum(1)
    return with_gradient(lists.scores, values, lists.fill(pull, 0.0).sub_(own))


def _near(scores: Tensor, grade: Tensor, count: int, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return log Z [batch, grades] and exp(s_i) sum A_g / Z_g [batch, list]; ``weight`` is A and is used up."""
    each = _exp(scores.clone())
    z = _by_grade(each, grade, count).flip(1).cumsum(1).flip(1).clamp_(min=torch.finfo(scores.dtype).tiny)
    pull = weight.div_(z).cumsum_(1).gather(1, grade)
    return z.log_(), each.mul_(pull)


def _far(scores: Tensor, grade: Tensor, count: int, weight: Tensor) -> tuple[Tensor, Tensor]:
    """As ``_near``, in logarithms throughout: scores far apart keep their tail."""
    peak = scores.new_full((len(scores), count), lowest_score(scores)).scatter_reduce_(1, grade, scores, "amax")
    each = _by_grade(_exp(scores - peak.gather(1, grade)), grade, count).log_().add_(peak)
    log_z = each.flip(1).logcumsumexp(1).flip(1).clamp_(min=lowest_score(scores))
    pull = weight.log_().sub_(log_z).logcumsumexp(1).gather(1, grade)
    return log_z, _exp(pull.add_(scores))


def _exp(values: Tensor) -> Tensor:
    """Return exp of ``values``, in place, at least the least normal number: exp of less takes ten times as long."""
    return values.clamp_(min=math.log(torch.finfo(values.dtype).tiny) + 1).exp_()


def _by_grade(values: Tensor, grade: Tensor, count: int) -> Tensor:
    """Return the sums of ``values`` [batch, list] over the documents of each grade, [batch, grades]."""
    return values.new_zeros(len(values), count).scatter_add_(1, grade, values)


def grades_from_the_best(lists: Lists) -> tuple[Tensor, int]:
    """Return each document's grade counted from its list's best, int64 [batch, list], and how many there are at most.

    Whole labels close together are grades as they are, gaps included; others are sorted. Masked places hold any grade.

    >>> from lorank.ranking.losses.core.lists import clean
    >>> grades_from_the_best(clean(torch.zeros(1, 4), torch.tensor([[3, 0, 1, 3]])))
    (tensor([[0, 3, 2, 0]]), 4)
    >>> grades_from_the_best(clean(torch.zeros(1, 4), torch.tensor([[0.3, 0.0, 0.1, 0.3]])))
    (tensor([[0, 2, 1, 0]]), 3)
    """
    highest = lists.fill(lists.labels, -torch.inf).amax(1, keepdim=True)
    below = lists.fill(highest - lists.labels, 0.0)
    if not below.numel():
        return below.long(), 1
    if float(below.amax()) < MOST_GRADES and not bool(lists.labels.frac().any()):
        grade = below.long()
    else:
        ordered, order = lists.fill(lists.labels, -torch.inf).sort(dim=1, descending=True)
        new = F.pad(ordered[:, 1:] != ordered[:, :-1], (1, 0)).cumsum(1, dtype=torch.int32)
        grade = torch.empty_like(new).scatter_(1, order, new).long()
    return grade, int(grade.max()) + 1


def _place_weights(lists: Lists, grade: Tensor, count: int) -> Tensor:
    """Return the mean a(r) over the places r of each grade, [batch, grades], from sums of powers of two."""
    documents = _by_grade(lists.mask.to(lists.scores), grade, count)
    upto = documents.cumsum(1)
    powers = 2 * (torch.exp2(documents - upto) - torch.exp2(-upto)) / documents.clamp(min=1)
    least = torch.exp2(1 - lists.sizes.to(powers)).unsqueeze(1)
    return ((powers - least) / (1 - least).clamp(min=0.5)).clamp(min=0)
