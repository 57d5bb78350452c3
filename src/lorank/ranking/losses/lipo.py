r"""LiPO: preference optimisation is learning to rank with the policy's log-ratios as scores (DPO, SLiC, LiPO-lambda).

    s_i = \beta \log \frac{\pi(y_i | x)}{\pi_ref(y_i | x)}

    dpo           mean over \psi_i > \psi_j of  (1 - e) \log(1 + \exp(-(s_i - s_j))) + e \log(1 + \exp(s_i - s_j))
    slic          mean over \psi_i > \psi_j of  \max(0, m - (s_i - s_j))
    lipo-lambda   \sum_{\psi_i > \psi_j} \Delta_{ij} \log(1 + \exp(-(s_i - s_j))),
                  \Delta_{ij} = |2^{\psi_i} - 2^{\psi_j}| |1 / \log(1 + \tau_i) - 1 / \log(1 + \tau_j)|

with \psi the labels of the responses to one prompt and \tau their ranks by score. Scores come in multiplied by beta;
:func:`log_ratio_scores` makes them. The paper's other losses are ``mse``, ``bce``, ``softmax`` and ``listmle``.

Paper: T. Liu et al., LiPO: Listwise Preference Optimization through Learning-to-Rank, 2024; R. Rafailov et al.,
Direct Preference Optimization, NeurIPS 2023; Y. Zhao et al., SLiC-HF, 2023; E. Mitchell, A Note on DPO with Noisy
Preferences, 2023 (e).

*Deviations*: weights are constants of the step, and gains are not divided by an ideal DCG, as in the paper. Pairs of
``dpo`` and ``slic`` are averaged within a list.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.ranking.losses.core.lists import check_label_size, check_positive, clean, ranks
from lorank.ranking.losses.core.pairs import mean_pair_loss, ordered_pair_weights, pairwise, sides
from lorank.ranking.losses.core.registry import register_loss
from lorank.ranking.losses.hinge import hinge


def log_ratio_scores(policy: Tensor, reference: Tensor, beta: float = 0.1) -> Tensor:
    """Return beta (log pi - log pi_ref) of responses, [batch, list], from their summed log-probabilities.

    >>> log_ratio_scores(torch.tensor([[-3.0, -5.0]]), torch.tensor([[-4.0, -4.0]]), beta=0.5)
    tensor([[ 0.5000, -0.5000]])
    """
    check_positive(beta=beta)
    return beta * (policy - reference)


@register_loss(
    "dpo",
    title="Direct Preference Optimization: Your Language Model is Secretly a Reward Model",
    area="losses.preference",
)
def dpo(
    scores: Tensor,
    labels: Tensor,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
    *,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Return the mean over lists of the mean DPO loss of their ordered pairs.

    Args:
        scores: beta times the log-ratio to the reference, [batch, list].
        labels: [batch, list]; of two responses the one with the higher label is preferred.
        mask: bool [batch, list], True where there is a response.
        weights: [batch] or [batch, list]; a pair has the weight of its preferred response.
        label_smoothing: Share e of preferences taken to be flipped, 0 up to below 1/2.

    Returns:
        A scalar, 0 or more.

    >>> import math
    >>> value = dpo(torch.tensor([[0.3, -0.2]]), torch.tensor([[1.0, 0.0]]))
    >>> math.isclose(value, -math.log(1 / (1 + math.exp(-0.5))), rel_tol=1e-6)
    True
    """
    if not 0 <= label_smoothing < 0.5:
        raise UsageError(f"label_smoothing must be from 0 to below 0.5; got {label_smoothing}")

    def smoothed(x: Tensor) -> tuple[Tensor, Tensor]:
        value = (1 - label_smoothing) * F.softplus(x, threshold=50)
        if label_smoothing:
            value += label_smoothing * F.softplus(-x, threshold=50)
        return value, x.sigmoid_().sub_(label_smoothing)

    return mean_pair_loss(clean(scores, labels, mask, weights), 1.0, smoothed)


@register_loss(
    "slic",
    title="SLiC-HF: Sequence Likelihood Calibration with Human Feedback (the hinge on pairs)",
    area="losses.preference",
)
def slic(
    scores: Tensor,
    labels: Tensor,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
    *,
    margin: float = 1.0,
) -> Tensor:
    """Return the mean over lists of the mean hinge loss of their ordered pairs.

    Args:
        scores: beta times the log-ratio to the reference, [batch, list].
        labels: [batch, list]; of two responses the one with the higher label is preferred.
        mask: bool [batch, list], True where there is a response.
        weights: [batch] or [batch, list]; a pair has the weight of its preferred response.
        margin: m above 0.

    Returns:
        A scalar, 0 or more.

    >>> slic(torch.tensor([[0.3, -0.2]]), torch.tensor([[1.0, 0.0]]))
    tensor(0.5000)
    """
    return hinge(scores, labels, mask, weights, margin=margin)


@catalogued("lipo", area="losses.preference", title="LiPO: Listwise Preference Optimization through Learning-to-Rank")
@register_loss(
    "lipo-lambda",
    title="LiPO: Listwise Preference Optimization through Learning-to-Rank (LiPO-lambda)",
    area="losses.preference",
)
def lipo_lambda(
    scores: Tensor,
    labels: Tensor,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """Return the mean over lists of the sum of their pairs' logistic losses, weighted by Delta.

    Args:
        scores: beta times the log-ratio to the reference, [batch, list].
        labels: psi [batch, list], the responses' grades or rewards.
        mask: bool [batch, list], True where there is a response.
        weights: [batch] or [batch, list]; a pair has the weight of its preferred response.

    Returns:
        A scalar, 0 or more.

    >>> import math
    >>> value = lipo_lambda(torch.tensor([[0.5, 0.0]]), torch.tensor([[1.0, 0.0]]))   # Delta = 1/log 2 - 1/log 3
    >>> math.isclose(value, (1 / math.log(2) - 1 / math.log(3)) * math.log1p(math.exp(-0.5)), rel_tol=1e-6)
    True
    """
    lists = clean(scores, labels, mask, weights)
    check_label_size(lists, scores, 12.0 if scores.dtype == torch.float16 else 60.0)
    gain, discount = torch.exp2(lists.labels), 1 / torch.log1p(ranks(lists))
    winners, ordered = ordered_pair_weights(lists)

    def delta(block: slice) -> Tensor:
        (gain_i, gain_j), (discount_i, discount_j) = (sides(values, winners, block) for values in (gain, discount))
        return ordered(block).mul_((gain_i - gain_j).abs_()).mul_((discount_i - discount_j).abs_())

    return lists.mean(pairwise(lists.scores, winners, delta, 1.0))
