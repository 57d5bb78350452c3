r"""Randomised trials of two policies with few resources: who would be treated alike in either arm is compared with
nobody.

Two arms, each with a policy that treats its k participants of highest index. A participant who was not treated, and
would
not be in the other arm either (her index there is below that of everyone treated there), can be moved between arms
without
any change of what is done. Averaged over all such reassignments, both arms get the mean outcome of these exchangeable
participants E for each that they hold:

    V_a = \frac{1}{n_a} ( \sum_{i in a, i not in E} y_i + |E \cap a| \, \bar y_E ),   effect = V_1 - V_0,

so that the noise of outcomes that no policy touches cancels.

Paper: A. Mate et al., Improved Policy Evaluation for Randomized Trials of Algorithmic Resource Allocation, ICML 2023.

*Deviations*: reconstructed from the idea, for one round of allocation; swaps are of untreated participants.
"""

from dataclasses import dataclass

import numpy as np

from lorank.catalogue import catalogued
from lorank.errors import UsageError


@dataclass(frozen=True)
class TrialEffect:
    """The effect of arm 1 over arm 0: by difference of means, reshuffled, and how many participants are
    exchangeable."""

    difference_of_means: float
    reshuffled: float
    exchangeable: int
    participants: int


@catalogued(
    "rct-reshuffling",
    area="evaluate",
    title="Improved Policy Evaluation for Randomized Trials of Algorithmic Resource Allocation",
    reach="lorank clicks trial TRIAL.csv; a trial is judged, not trained, so it has no recipe",
)
def reshuffled_effect(outcomes: np.ndarray, arms: np.ndarray, treated: np.ndarray, indices: np.ndarray) -> TrialEffect:
    """Return the effect of a trial.

    Args:
        outcomes: float [n].
        arms: int [n], 0 or 1.
        treated: bool [n].
        indices: float [n, 2], each participant's index under the policy of arm 0 and of arm 1; the highest are treated.

    Raises:
        UsageError: For arms that are not 0 and 1, an empty arm, and a treatment that does not follow the indices.

    >>> y, arm = np.array([5.0, 1.0, 2.0, 4.0, 3.0, 1.0]), np.array([1, 1, 1, 0, 0, 0])
    >>> index = np.array([[9, 9], [1, 1], [2, 2], [9, 9], [1, 1], [2, 2]])
    >>> reshuffled_effect(y, arm, np.array([1, 0, 0, 1, 0, 0], bool), index).reshuffled.__round__(3)
    0.333
    """
    arms, treated = np.asarray(arms), np.asarray(treated, bool)
    if set(np.unique(arms)) != {0, 1}:
        raise UsageError(f"the arms are {np.unique(arms).tolist()[:5]}; they are 0 and 1, and each has participants")
    exchangeable = ~treated
    for arm in (0, 1):
        own, index = arms == arm, indices[:, arm]
        threshold = index[own & treated].min() if (own & treated).any() else np.inf
        if (index[own & ~treated] > threshold).any():
            raise UsageError(f"arm {arm} leaves a participant untreated whose index is above that of a treated one")
        exchangeable &= index < threshold
    mean = float(outcomes[exchangeable].mean()) if exchangeable.any() else 0.0
    values = np.where(exchangeable, mean, outcomes)
    plain, pooled = (float(v[arms == 1].mean() - v[arms == 0].mean()) for v in (outcomes, values))
    return TrialEffect(plain, pooled, int(exchangeable.sum()), len(outcomes))
