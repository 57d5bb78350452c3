"""Sampling plans of policy gradients, one a file; importing the package fills ``PLANS``."""

import importlib
import pkgutil

from lorank.ranking.policies.plans.registry import PLANS, Draw, Kept, SamplingPlan, make_plan, sampling_plan

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["PLANS", "Draw", "Kept", "SamplingPlan", "make_plan", "sampling_plan"]
