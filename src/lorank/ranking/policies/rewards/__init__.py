"""Rewards of written replies, importing the package fills ``REWARDS``."""

import importlib
import pkgutil

from lorank.ranking.policies.rewards.registry import REWARDS, Asked, Generated, Reward, Scoring, find_rewards, reward

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["REWARDS", "Asked", "Generated", "Reward", "Scoring", "find_rewards", "reward"]
