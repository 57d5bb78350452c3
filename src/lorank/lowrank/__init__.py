"""The low-rank wing: how a weight is changed with few numbers. It knows nothing about ranking."""

from lorank import catalogue, plugins
from lorank.lowrank import algebra
from lorank.lowrank.adapter import Adapter, load
from lorank.lowrank.agreement import Probe, ScoreChange, compare_scores
from lorank.lowrank.algebra import attach_factors, combine, factors_of, squeeze
from lorank.lowrank.attaching import attach
from lorank.lowrank.bottleneck import attach_bottlenecks, load_bottlenecks
from lorank.lowrank.budgets import DYNAMIC, STATIC, Budget, make_budget
from lorank.lowrank.budgets.core.settle import settle
from lorank.lowrank.calibration import calibrate
from lorank.lowrank.export import EXPORTS, ExportReport
from lorank.lowrank.factored import FACTORED, Factored, make_factored, open_factored, save_factored
from lorank.lowrank.families import Family, families
from lorank.lowrank.forms import FORMS, Factors, Form, Site
from lorank.lowrank.heads import new_head_modules
from lorank.lowrank.layer import Adapted
from lorank.lowrank.linalg import SVD, top_k_svd
from lorank.lowrank.presets import PRESETS, Preset, statistics_needed
from lorank.lowrank.quantised import QuantisedLinear, dequantise, quantise
from lorank.lowrank.rates import DefaultRate, default_rate
from lorank.lowrank.routing import context
from lorank.lowrank.rules import RULES, Rule, make_rule, optimizer
from lorank.lowrank.scaling import SCALINGS
from lorank.lowrank.settings import LayerPlan, Settings
from lorank.lowrank.shrink import SHRINKERS, Shrunk, factorize
from lorank.lowrank.starts import STARTS, Start
from lorank.lowrank.sweep import Swept, sweep, within_noise
from lorank.lowrank.targets import select_targets
from lorank.lowrank.taxonomy import Variant, taxonomy

plugins.load()


def methods(area: str | None = None) -> list[catalogue.Method]:
    """Return the catalogue entries of this wing, of one area or of all.

    >>> [method.id for method in methods("adapters.optim")][:3]
    ['allora', 'altlora', 'bilora']
    """
    return [method for method in catalogue.methods(area) if method.location.startswith("lorank.lowrank.")]


__all__ = [
    "Adapted",
    "Adapter",
    "Budget",
    "DYNAMIC",
    "DefaultRate",
    "EXPORTS",
    "ExportReport",
    "FACTORED",
    "FORMS",
    "Factored",
    "Factors",
    "Family",
    "Form",
    "LayerPlan",
    "PRESETS",
    "Preset",
    "Probe",
    "QuantisedLinear",
    "RULES",
    "Rule",
    "SCALINGS",
    "SHRINKERS",
    "STARTS",
    "STATIC",
    "SVD",
    "ScoreChange",
    "Settings",
    "Shrunk",
    "Site",
    "Start",
    "Swept",
    "Variant",
    "algebra",
    "attach",
    "attach_bottlenecks",
    "attach_factors",
    "calibrate",
    "combine",
    "compare_scores",
    "context",
    "default_rate",
    "dequantise",
    "factorize",
    "factors_of",
    "families",
    "load",
    "load_bottlenecks",
    "make_budget",
    "make_factored",
    "make_rule",
    "methods",
    "new_head_modules",
    "open_factored",
    "optimizer",
    "quantise",
    "save_factored",
    "select_targets",
    "settle",
    "squeeze",
    "statistics_needed",
    "sweep",
    "taxonomy",
    "top_k_svd",
    "within_noise",
]
