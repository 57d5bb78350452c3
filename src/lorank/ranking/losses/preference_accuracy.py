r"""Ranking accuracy of a policy on preferences, the best it could be, and the loss at which a pair turns.

    accuracy     share of pairs with \log \pi(y_w) > \log \pi(y_l), each divided by its length where lengths are given
    idealised    share of pairs with c_ref + \frac{1}{\beta} \log \frac{\alpha}{1 - \alpha} > 0,
                 c_ref = \log \pi_ref(y_w) - \log \pi_ref(y_l)
    turning      -\log \sigma(-\beta c_ref)

alpha is the share of people who prefer y_w. The policy that DPO and RLHF aim at multiplies the reference by
exp(r / beta), so its own order of a pair is the reference's plus the log-odds of the preference over beta: with a
reference that puts y_l first by far, even that policy ranks the pair wrongly unless alpha is 1. A pair is ranked
rightly exactly when its DPO loss is below the turning value; pairs that the reference has wrong need a loss
below log 2.

Paper: A. Chen, S. Malladi, L. H. Zhang, X. Chen, Q. Zhang, R. Ranganath, K. Cho, Preference Learning Algorithms Do Not
Learn Preference Rankings, NeurIPS 2024.

*Deviations*: the paper writes c for the log-ratio of the dispreferred to the preferred response, c = -c_ref, and
-log sigma(beta c) for the turning value; these are the same numbers. The idealised accuracy is for whole
log-likelihoods; with length-normalised ones the ideal policy's constant does not cancel.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.ranking.losses.core.lists import check_positive


@catalogued(
    "preference-ranking-accuracy",
    area="losses.preference",
    title="Preference Learning Algorithms Do Not Learn Preference Rankings",
    reach="Python alone: it measures likelihoods that the caller has computed",
)
def ranking_accuracy(
    chosen: Tensor, rejected: Tensor, *, chosen_lengths: Tensor | None = None, rejected_lengths: Tensor | None = None
) -> float:
    """Return the share of pairs that a policy ranks as people do; a tie counts as wrong.

    Args:
        chosen: Log-likelihood of each preferred response, [pairs].
        rejected: Log-likelihood of each other response, [pairs].
        chosen_lengths: Tokens of the preferred responses [pairs]; with ``rejected_lengths``, likelihoods are a token's.
        rejected_lengths: Tokens of the others.

    >>> ranking_accuracy(torch.tensor([-10.0, -4.0]), torch.tensor([-12.0, -3.0]))
    0.5
    >>> ranking_accuracy(torch.tensor([-10.0]), torch.tensor([-8.0]), chosen_lengths=torch.tensor([10]),
    ...                  rejected_lengths=torch.tensor([4]))
    1.0
    """
    _check_pairs(chosen, rejected)
    if (chosen_lengths is None) != (rejected_lengths is None):
        raise UsageError("give the lengths of both responses or of neither")
    if chosen_lengths is not None and rejected_lengths is not None:
        chosen, rejected = chosen / chosen_lengths, rejected / rejected_lengths
    return float((chosen > rejected).double().mean())


def idealised_accuracy(
    reference_chosen: Tensor, reference_rejected: Tensor, preference: Tensor | float = 1.0, *, beta: float
) -> float:
    """Return the ranking accuracy of the policy that attains the optimum of DPO or RLHF.

    Args:
        reference_chosen: The reference model's log-likelihood of each preferred response, [pairs].
        reference_rejected: Of each other response, [pairs].
        preference: alpha, share of people who prefer the first, [pairs] or one number, 0 to 1.
        beta: Weight of the divergence from the reference, above 0.

    >>> idealised_accuracy(torch.tensor([-9.0, -5.0]), torch.tensor([-5.0, -9.0]), 0.6, beta=0.1)   # log 1.5 / 0.1 > 4
    1.0
    >>> idealised_accuracy(torch.tensor([-9.0, -5.0]), torch.tensor([-5.0, -9.0]), 0.6, beta=0.2)
    0.5
    """
    _check_pairs(reference_chosen, reference_rejected)
    check_positive(beta=beta)
    share = torch.as_tensor(preference, dtype=torch.float64)
    if not bool(((share >= 0) & (share <= 1)).all()):
        raise UsageError("preference must be between 0 and 1")
    ideal = (reference_chosen - reference_rejected).double() + torch.logit(share) / beta
    return float((ideal > 0).double().mean())


def turning_loss(reference_chosen: Tensor, reference_rejected: Tensor, *, beta: float) -> Tensor:
    """Return for every pair the DPO loss below which the policy ranks it as people do, [pairs].

    >>> turning_loss(torch.tensor([-5.0, -9.0]), torch.tensor([-5.0, -5.0]), beta=0.1)   # log 2, log(1 + e^-0.4)
    tensor([0.6931, 0.5130])
    """
    _check_pairs(reference_chosen, reference_rejected)
    check_positive(beta=beta)
    return F.softplus(beta * (reference_chosen - reference_rejected))


def _check_pairs(chosen: Tensor, rejected: Tensor) -> None:
    if chosen.dim() != 1 or chosen.shape != rejected.shape or not len(chosen):
        raise UsageError(
            f"give both log-likelihoods of one or more pairs as [pairs]; got {list(chosen.shape)} and "
            f"{list(rejected.shape)}"
        )
