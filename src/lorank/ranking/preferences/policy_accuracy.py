"""How well a causal policy orders preference pairs, how well its reference does, and how well it could.

The numbers are those of :mod:`lorank.ranking.losses.preference_accuracy`, for a ``CausalRanker`` whose score is the
log-ratio: its likelihoods with the adapter on and off.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lorank.errors import UsageError
from lorank.ranking.losses.preference_accuracy import idealised_accuracy, ranking_accuracy, turning_loss
from lorank.ranking.scorers.causal import CausalRanker


@dataclass(frozen=True)
class PolicyAccuracy:
    """Shares of pairs, 0 to 1.

    ``policy`` and ``reference`` order by likelihood, ``policy_per_token`` by likelihood a token, ``idealised`` is the
    best that the loss aims at, ``implied`` orders by the log-ratio (the reward that DPO learns), and ``turned`` is the
    share of pairs whose DPO loss is below the value at which a pair is ordered rightly; it equals ``policy``.
    """

    policy: float
    policy_per_token: float
    reference: float
    idealised: float
    implied: float
    turned: float
    pairs: int


def policy_accuracy(
    ranker: CausalRanker,
    queries: Sequence[str],
    chosen: Sequence[str],
    rejected: Sequence[str],
    *,
    preference: float = 1.0,
) -> PolicyAccuracy:
    """Return the accuracies of a policy on preference pairs.

    Args:
        ranker: With view ``log-ratio``; its reference is the model with the adapter switched off.
        queries: The prompts [pairs].
        chosen: The preferred replies [pairs].
        rejected: The others [pairs].
        preference: Share of people who prefer the chosen reply, for the idealised accuracy.
    """
    if ranker.view != "log-ratio":
        raise UsageError(f"a policy's accuracy needs view='log-ratio', this ranker has {ranker.view!r}")
    if not len(queries) == len(chosen) == len(rejected) > 0:
        raise UsageError(
            f"give one chosen and one rejected reply a query; got {len(queries)}, {len(chosen)} and {len(rejected)}"
        )
    count = len(queries)
    own = np.arange(count)
    pairs = np.concatenate([np.stack([own, own], 1), np.stack([own, own + count], 1)])
    policy, lengths = ranker.log_likelihoods(queries, [*chosen, *rejected], pairs)
    with ranker.reference():
        reference, _ = ranker.log_likelihoods(queries, [*chosen, *rejected], pairs)
    won, lost = (torch.from_numpy(part).double() for part in np.split(policy, 2))
    won_before, lost_before = (torch.from_numpy(part).double() for part in np.split(reference, 2))
    long_won, long_lost = (torch.from_numpy(part).double() for part in np.split(lengths, 2))
    gain: Tensor = ranker.beta * ((won - won_before) - (lost - lost_before))
    threshold = turning_loss(won_before, lost_before, beta=ranker.beta)
    loss_at_turn = F.softplus(-gain)
    return PolicyAccuracy(
        ranking_accuracy(won, lost),
        ranking_accuracy(won, lost, chosen_lengths=long_won, rejected_lengths=long_lost),
        ranking_accuracy(won_before, lost_before),
        idealised_accuracy(won_before, lost_before, preference, beta=ranker.beta),
        float((gain > 0).double().mean()),
        float((loss_at_turn < threshold).double().mean()),
        count,
    )
