"""Mixes of rewards, one a file; importing the package fills ``MIXES``."""

import importlib
import pkgutil

from lorank.ranking.policies.mixes.registry import MIXES, RewardMix, make_mix, reward_mix

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["MIXES", "RewardMix", "make_mix", "reward_mix"]
