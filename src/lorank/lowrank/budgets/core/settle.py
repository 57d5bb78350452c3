"""From gated forms to plain LoRA, each layer at the rank that a budget left it."""

from dataclasses import replace

import torch

from lorank.errors import UsageError
from lorank.lowrank.adapter import Adapter
from lorank.lowrank.forms import Gated, LoRA, Site


def settle(adapter: Adapter) -> Adapter:
    """Replace the adapter's gated forms, in place, by plain LoRAs with gates and masks folded into B.

    The scale s stays, components that are off or whose gate is 0 are gone, and layers without any have rank 0: they
    are in no file. What comes out saves and exports as any LoRA, with PEFT's rank_pattern where ranks differ.

    >>> from torch import nn
    >>> from lorank import lowrank
    >>> adapter = lowrank.attach(nn.Sequential(nn.Linear(3, 2)), "gated", rank=2, options={"gates": "one"})
    >>> settle(adapter).forms["0"].rank
    2
    """
    if adapter.merged:
        raise UsageError("the adapter is merged; unmerge it before settling its ranks")
    largest = 0
    for path, form in adapter.forms.items():
        if not isinstance(form, Gated):
            raise UsageError(f"layer {path} has a {type(form).__name__}, not a gated form; there is nothing to settle")
        A, B, scaling = form.as_lora()
        layer = adapter.layers[path]
        site = Site(path, layer.frozen, len(A), scaling * len(A), scaling, form.dropout, adapter.settings.seed)
        lora = LoRA(site)
        lora.set_factors(A, B)
        with torch.no_grad():
            layer.forms[adapter.name] = lora.to(A.device).train(form.training)
        largest = max(largest, len(A))
    adapter.settings = replace(
        adapter.settings, form="lora", start="zero", scaling="lora", rank=largest, alpha=None, options={}
    )
    return adapter
