r"""The taxonomy of adapters, read off the registries: on which axes a method differs from plain LoRA.

    rank              another form of the update, a budget of ranks, or a start that shares ranks out
    optimization      another scale, or another rule by which factors step
    initialization    another start
    experts           several updates on one weight, mixed or chosen among

A method stands on every axis on which it differs, so it may stand on several; LoRA stands on none. Nothing here is
written down by hand: what ``attach`` knows by name is classified when it is registered, and measured on a layer of
[48, 64] at rank 4. All have one interface (`lorank.lowrank.attach`) and pass one suite of tests; `sweep` compares them.

A Unified Study of LoRA Variants: Taxonomy, Review, Codebase, and Empirical Evaluation.

*Deviations*: [~] the four axes are the study's; which of them a single method stands on is decided by the rule above,
not copied from the study's tables.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import nn

from lorank.catalogue import catalogued
from lorank.errors import unknown_name
from lorank.lowrank.base import BaseLinear
from lorank.lowrank.forms.form import FORMS, ROUTED, Form, Site, form_type
from lorank.lowrank.forms.peft_form import PeftForm
from lorank.lowrank.presets import PRESETS, Preset, preset, statistics_needed
from lorank.lowrank.rates import default_rate
from lorank.lowrank.starts import STARTS, Start

OUT, IN, RANK = 48, 64, 4


@dataclass(frozen=True)
class Variant:
    """One method: its point on lorank's axes, and what its update is like.

    Args:
        name: as ``attach`` knows it.
        axes: on which it differs from plain LoRA.
        form: how the update is written.
        start: where it starts.
        scaling: how alpha and r make the scale.
        rule: how its factors step.
        budget: how ranks are shared out.
        needs: the kinds of statistics that one calibration pass must gather.
        rank: the largest rank of dW as it is built, as a multiple of LoRA's; a budget moves it.
        values: the trained values at that time, as a multiple of LoRA's.
        additive: whether dW is a product of thin factors that can be added to others.
        mergeable: whether one matrix stands for dW.
        peft: whether PEFT loads what ``save`` writes.
        tables: whether it also stands on embeddings and convolutions.
        lr: the learning rate that it brings; see `lorank.lowrank.rates`.
    """

    name: str
    axes: tuple[str, ...]
    form: str
    start: str
    scaling: str
    rule: str
    budget: str
    needs: tuple[str, ...]
    rank: float
    values: float
    additive: bool
    mergeable: bool
    peft: bool
    tables: bool
    lr: float

    def as_dict(self) -> dict[str, object]:
        """Return the fields by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def _is_routed(form: type[Form]) -> bool:
    return form.__module__.startswith("lorank.lowrank.routing.")


def _shares_ranks(start: str) -> bool:
    return type(STARTS[start]).ranks is not Start.ranks


AXES: dict[str, Callable[[Preset], bool]] = {
    "rank": lambda point: (
        (point.form != "lora" and not _is_routed(form_type(point.form)))
        or point.budget != "none"
        or _shares_ranks(point.start)
    ),
    "optimization": lambda point: point.scaling != "lora" or point.rule != "adamw",
    "initialization": lambda point: point.start != "zero",
    "experts": lambda point: _is_routed(form_type(point.form)),
}
"""Each axis, and whether a point differs from plain LoRA on it."""


@catalogued(
    "lorafactory",
    area="adapters.form",
    title="A Unified Study of LoRA Variants: Taxonomy, Review, Codebase, and Empirical Evaluation",
    reach="`lorank adapter list`, and Python: an overview of methods has no place in a recipe",
)
def taxonomy(axis: str | None = None) -> list[Variant]:
    """Return every method that ``attach`` knows, by name; those on one ``axis`` where it is given.

    >>> [variant.name for variant in taxonomy("initialization")][:4]
    ['eva', 'gora', 'lamda-plus-plus', 'loku']
    >>> {variant.name: variant.axes for variant in taxonomy()}["lora-sb"]
    ('rank', 'initialization')
    """
    if axis is not None and axis not in AXES:
        raise unknown_name("axis of the taxonomy", axis, AXES)
    variants = [variant(name) for name in sorted({*PRESETS, *FORMS, *ROUTED})]
    return [each for each in variants if axis is None or axis in each.axes]


def variant(name: str) -> Variant:
    """Return the method called ``name``, measured on a random layer.

    >>> variant("gralora").rank, variant("lora-fa").values
    (2.0, 0.43)
    """
    point = preset(name)
    form, needed = _example(point), statistics_needed(name)
    return Variant(
        name=name,
        axes=tuple(axis for axis, differs in AXES.items() if differs(point)),
        form=point.form,
        start=point.start,
        scaling=point.scaling,
        rule=point.rule,
        budget=point.budget,
        needs=tuple(sorted(needed)),
        rank=form.rank_bound() / RANK,
        values=round(form.parameter_count() / (RANK * (IN + OUT)), 2),
        additive=form.mergeable and form.as_lora() is not None,
        mergeable=form.mergeable,
        peft=isinstance(form, PeftForm),
        tables=form.mergeable and point.base is None and "inputs" not in needed,
        lr=default_rate(name).value,
    )


def _example(point: Preset) -> Form:
    layer = nn.utils.skip_init(nn.Linear, IN, OUT, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(OUT, IN, generator=torch.Generator().manual_seed(0)))
    site = Site("layer", BaseLinear(layer), RANK, float(RANK), 1.0)
    return form_type(point.form).build([site], **point.options)[0]
