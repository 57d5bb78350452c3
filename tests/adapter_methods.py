"""Every name that `lowrank.attach` takes, and statistics for those that read some: for contracts over registries."""

import torch

from lorank import lowrank
from lorank.lowrank.base import BaseLinear
from lorank.lowrank.forms.form import FORMS, ROUTED
from lorank.lowrank.presets import PRESETS
from lorank.lowrank.starts import STARTS

METHODS = sorted({*PRESETS, *FORMS, *ROUTED})
LAYERS = ("wide", "narrow", "transposed")

VARIANTS = {
    "lorma": {"kind": "permutation"},
    "mora-square": {"kind": "sharing"},
    "gralora": {"blocks": 1},
    "lamda": {"groups": 2},
    "flylora": {"top": 1},
    "tied-lora": {"trained": "uv"},
}
"""Options under which a form takes other paths than by default."""

POINTS = [(name, None, {}) for name in METHODS]
POINTS += [(name, None, options) for name, options in VARIANTS.items()]
POINTS += [
    (form, start, {}) for form in FORMS for start in STARTS if start != "zero" and STARTS[start].suits(FORMS[form])
]
"""Method, start (None for the method's own) and options: all there is to attach."""


def label(point):
    name, start, options = point
    return "-".join([name, *filter(None, [start]), *map(str, options.values())])


def statistics(model, paths=LAYERS):
    """What a calibration pass might have seen; the same for a layer whatever else is adapted."""
    seen = {}
    for path in paths:
        module = model.get_submodule(path)
        base = module.frozen if isinstance(module, lowrank.Adapted) else BaseLinear(module)
        generator = torch.Generator().manual_seed(sum(map(ord, path)))
        gradient = torch.randn(base.out_features, base.in_features, generator=generator)
        fisher = {kind: torch.rand(gradient.shape, generator=generator) for kind in ("fisher_forget", "fisher_retain")}
        inputs = torch.randn(40, base.in_features, generator=generator)
        seen[path] = {"gradient": gradient, "fisher": gradient.square(), "inputs": inputs, **fisher}
    return seen


def attach(model, point, **keywords):
    """Attach the point to the tower's layers, with whatever statistics it may read."""
    name, start, options = point
    paths = keywords.setdefault("targets", LAYERS)
    defaults = {"rank": 2, "trained": ["head"], "seed": 1, "statistics": statistics(model, paths)}
    return lowrank.attach(model, name, start=start, options=options, **defaults | keywords)
