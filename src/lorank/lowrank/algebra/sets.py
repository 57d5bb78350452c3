"""A whole adapter as plain factors by layer: taken off an adapter, and attached again as a LoRA."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lorank.errors import UsageError
from lorank.lowrank.adapter import Adapter
from lorank.lowrank.algebra.factors import fold_scale, plain_lora
from lorank.lowrank.forms.form import Factors
from lorank.lowrank.forms.lora import LoRA
from lorank.lowrank.installing import prepare
from lorank.lowrank.module_tree import unwrap_model
from lorank.lowrank.settings import LayerPlan, Settings

FactorSet = Mapping[str, Factors]
"""The update of each layer, by path."""

Heads = Mapping[str, Mapping[str, Tensor]]
"""The tensors of each module that is trained whole, by its path."""


@torch.no_grad()
def factors_of(adapter: Adapter, *, rank: int | None = None, energy: float | None = None) -> dict[str, Factors]:
    """Return the update of every layer as factors of their own, apart from the adapter's tensors.

    Args:
        adapter: of any form.
        rank: the highest rank of a layer; above it, and where the form is no LoRA, the update is cut off by SVD.
        energy: the share of the squared norm that a layer keeps, in (0, 1].

    Raises:
        UsageError: where a form is no plain LoRA and neither rank nor energy is given.

    >>> from lorank import lowrank
    >>> adapter = lowrank.attach(nn.Sequential(nn.Linear(3, 2)), "lora", rank=1, alpha=4.0)
    >>> {path: factors.scaling for path, factors in factors_of(adapter).items()}
    {'0': 4.0}
    """
    found = {}
    for path, form in adapter.forms.items():
        factors = plain_lora(form, adapter.layers[path].frozen.weight, rank, energy)
        if factors is None:
            raise UsageError(
                f"{type(form).__name__} on {path} is no plain LoRA; say at which rank or energy to cut it off"
            )
        found[path] = Factors(factors.A.detach().clone(), factors.B.detach().clone(), factors.scaling)
    return found


def heads_of(adapter: Adapter) -> dict[str, dict[str, Tensor]]:
    """Return copies of the tensors of the modules that ``adapter`` trains whole."""
    return {
        path: {key: tensor.detach().clone() for key, tensor in module.state_dict().items()}
        for path, module in adapter.trained.items()
    }


def attach_factors(
    model: nn.Module, factors: FactorSet, *, heads: Heads | None = None, name: str = "default", seed: int = 0
) -> Adapter:
    """Put given updates on ``model`` as a LoRA of scale 1: alpha is each layer's rank, the scale lies in B.

    Args:
        model: the base that the factors belong to.
        factors: the update of each layer; ranks may differ.
        heads: what modules trained whole become.
        name: of the adapter on this model.
        seed: noted in the adapter's settings; nothing is drawn from it that stays.

    >>> model = nn.Sequential(nn.Linear(3, 2))
    >>> adapter = attach_factors(model, {"0": Factors(torch.ones(1, 3), torch.ones(2, 1), 5.0)})
    >>> adapter.layers["0"].delta()[0].tolist()
    [5.0, 5.0, 5.0]
    """
    if not factors:
        raise UsageError("there are no layers in the factors; nothing would be adapted")
    ranks = {path: pair.A.shape[0] for path, pair in factors.items()}
    most = max(ranks.values())
    settings = Settings("lora", "lora", "zero", "lora", most, None, seed=seed)
    plan = {path: LayerPlan(rank, float(rank)) for path, rank in ranks.items()}
    prepared = prepare(unwrap_model(model), settings, plan, heads or {}, name)
    for path, form in zip(plan, prepared.forms, strict=True):
        assert isinstance(form, LoRA)
        if ranks[path]:
            A, B, _ = fold_scale(factors[path])
            form.set_factors(A, B)
    adapter = prepared.put_on(Adapter)
    for path, tensors in (heads or {}).items():
        adapter.trained[path].load_state_dict(dict(tensors))
    return adapter
