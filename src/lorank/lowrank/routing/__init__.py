"""Several updates on one weight: routed per task, per preference, per token or per rank."""

from lorank.lowrank.routing import base_layers, flylora, mhr, mixture_of_routers, mora_mixture, palora, taps
from lorank.lowrank.routing.assignment import balanced_assignment
from lorank.lowrank.routing.context import Conditions, conditions, context
from lorank.lowrank.routing.palora import preference_schedule

__all__ = [
    "balanced_assignment",
    "base_layers",
    "Conditions",
    "conditions",
    "context",
    "flylora",
    "mhr",
    "mixture_of_routers",
    "mora_mixture",
    "palora",
    "preference_schedule",
    "taps",
]
