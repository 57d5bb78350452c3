"""Preferences beyond a loss: personal rewards, stopping early, averaged reward models, bounds on rewards, duels.

The losses themselves (DPO, SLiC, LiPO, the outside option) are in ``lorank.ranking.losses``.
"""

from lorank.ranking.preferences.constrained import Multipliers, best_points, mixed_advantages
from lorank.ranking.preferences.early_exit import BestOf, acceptance_threshold, best_of_mini_n
from lorank.ranking.preferences.lore import PersonalRewards, fit_personal_rewards
from lorank.ranking.preferences.perl import tune_policy
from lorank.ranking.preferences.policy_accuracy import PolicyAccuracy, policy_accuracy
from lorank.ranking.preferences.rewards_in_context import RewardScale, condition_prompt, near_front
from lorank.ranking.preferences.sparta import Contestant, Duel, Policy, Reputations, duels
from lorank.ranking.preferences.warm import average_folders, average_weights
from lorank.ranking.preferences.zeroth_order import ranked_descent, ranked_direction

__all__ = [
    "BestOf",
    "Contestant",
    "Duel",
    "Multipliers",
    "PersonalRewards",
    "Policy",
    "PolicyAccuracy",
    "Reputations",
    "RewardScale",
    "acceptance_threshold",
    "average_folders",
    "average_weights",
    "best_of_mini_n",
    "best_points",
    "condition_prompt",
    "duels",
    "fit_personal_rewards",
    "mixed_advantages",
    "near_front",
    "policy_accuracy",
    "ranked_descent",
    "ranked_direction",
    "tune_policy",
]
