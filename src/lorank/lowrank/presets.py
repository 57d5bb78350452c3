"""Each published method as a point on the axes: form, start, scaling, rule, budget."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from lorank.errors import unknown_name
from lorank.lowrank.budgets import DYNAMIC, STATIC
from lorank.lowrank.forms.form import FORMS, ROUTED
from lorank.lowrank.starts import start_named


@dataclass(frozen=True)
class Preset:
    """A named choice on the axes; explicit arguments of ``attach`` go before it."""

    form: str
    start: str = "zero"
    scaling: str = "lora"
    rule: str = field(default="adamw", repr=False)
    budget: str = field(default="none", repr=False)
    options: Mapping[str, object] = field(default_factory=dict, repr=False)
    base: str | None = field(default=None, repr=False)
    """How the layers under the updates are quantised where they are dense, or None."""
    lr: float | None = field(default=None, repr=False)
    """The rate of a method that differs from its form by the scaling alone; see `lorank.lowrank.rates`."""


PRESETS: dict[str, Preset] = {
    "lora": Preset("lora"),
    "dora": Preset("dora"),
    "rslora": Preset("lora", scaling="rslora", lr=5e-4),
    "rora-scaling": Preset("lora", scaling="rora-scaling", lr=5e-4),
    "pissa": Preset("lora", start="svd"),
    "olora": Preset("lora", start="olora"),
    "lora-init-a": Preset("lora", start="init-a"),
    "lora-init-b": Preset("lora", start="init-b"),
    "eva": Preset("lora", start="eva"),
    "gora": Preset("lora", start="gora"),
    "loku": Preset("lora", start="loku"),
    "lora-ga": Preset("lora", start="lora-ga"),
    "lora-sb": Preset("lora-core", start="lora-sb"),
    "lamda-plus-plus": Preset("lamda", start="spectrum-ranks"),
    "lora-plus": Preset("lora", rule="lora-plus"),
    "lora-pro": Preset("lora", rule="lora-pro"),
    "loft": Preset("lora", rule="loft"),
    "altlora": Preset("lora", rule="altlora"),
    "allora": Preset("lora", rule="allora"),
    "coto": Preset("lora", rule="coto"),
    "chain-of-lora": Preset("lora", rule="chain-of-lora"),
    "fast-forward": Preset("lora", rule="fast-forward"),
    "polyak-momentum": Preset("lora", rule="polyak-momentum"),
    "bilora": Preset("gated", rule="bilora"),
}
"""Every method that ``attach`` knows by name; a form without an entry is a preset of its own."""


def preset(name: str) -> Preset:
    """Return the preset called ``name``.

    >>> preset("pissa")
    Preset(form='lora', start='svd', scaling='lora')
    """
    if name in PRESETS:
        return PRESETS[name]
    if name in FORMS or name in ROUTED:
        return Preset(name)
    if name in DYNAMIC:
        return Preset("gated", budget=name, options=DYNAMIC[name].form_options, base=DYNAMIC[name].base)
    if name in STATIC:
        return Preset("lora", budget=name)
    raise unknown_name("adapter", name, {*PRESETS, *FORMS, *ROUTED, *DYNAMIC, *STATIC})


def statistics_needed(method: str, start: str | None = None) -> frozenset[str]:
    """Return the kinds of statistics that ``attach(model, method, start=start)`` reads.

    >>> sorted(statistics_needed("eva")), sorted(statistics_needed("lora", "lora-ga"))
    (['inputs'], ['gradient'])
    """
    chosen = preset(method)
    needs = start_named(start or chosen.start).needs
    return needs | STATIC[chosen.budget].needs if chosen.budget in STATIC else needs


PRESETS.update({name: preset(name) for name in (*DYNAMIC, *STATIC) if name not in PRESETS})
