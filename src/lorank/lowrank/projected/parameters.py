"""Parameters as anybody's loop has them: which are projected, at which rank, and in which block they lie."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from lorank.errors import UsageError
from lorank.lowrank.layer import Adapted
from lorank.lowrank.projected.layers import Layer, block_of
from lorank.lowrank.targets import ALL_LINEAR, select_targets

Parameters = nn.Module | Iterable[Any]
"""A model, parameters, pairs of name and parameter, or groups as dictionaries with ``params``."""

SHARE = 4
"""Where no rank is given it is the shorter side of a matrix divided by this."""


def make_groups(
    parameters: Parameters, targets: str | Iterable[str] = ALL_LINEAR, exclude: Iterable[str] = ()
) -> tuple[list[dict[str, Any]], dict[nn.Parameter, str]]:
    """Return the groups of an optimizer, and the name of each parameter that has one.

    Of a model the layers ``targets`` are projected, and all that is trained beside them steps plainly. A group's
    ``rank`` is that of its matrices, or None where they step plainly.

    Raises:
        UsageError: For what is no parameter, and where nothing is left to train.
    """
    if isinstance(parameters, nn.Module):
        return _groups_of_model(parameters, targets, exclude)
    names: dict[nn.Parameter, str] = {}
    loose: list[Any] = []
    groups: list[dict[str, Any]] = []
    for each in parameters:
        if isinstance(each, Mapping):
            own = each["params"]
            own = [own] if isinstance(own, Tensor) else list(own)
            groups.append({**each, "params": [_named(one, names) for one in own]})
        else:
            loose.append(_named(each, names))
    groups = [{"params": loose}, *groups] if loose else groups
    if not groups:
        raise UsageError("no parameters; give those of a model, as torch.optim takes them")
    return groups, names


def short_side(parameter: Tensor) -> int:
    """Return the shorter side of a parameter seen as a matrix [first, rest]; 0 of one that is no matrix.

    >>> import torch
    >>> short_side(torch.zeros(8, 3, 2)), short_side(torch.zeros(8))
    (6, 0)
    """
    if parameter.dim() < 2 or not parameter.numel():
        return 0
    return min(parameter.shape[0], parameter.numel() // parameter.shape[0])


def rank_for(parameter: Tensor, group: Mapping[str, Any], whole: bool) -> int | None:
    """Return the rank at which a parameter is projected; None where it steps plainly.

    Args:
        parameter: The parameter.
        group: Its group: ``rank``, and ``strict`` where every matrix must bear it.
        whole: Whether nothing is projected, so that any rank is possible.

    Raises:
        UsageError: Where the group is strict and a matrix does not bear its rank.
    """
    short, rank = short_side(parameter), group["rank"]
    if not short or group["plain"]:
        return None
    if rank is None:
        return max(1, short // SHARE)
    if rank > short and not whole:
        if group["strict"]:
            raise UsageError(
                f"rank {rank} is above the shorter side of a matrix of shape {tuple(parameter.shape)}; give a rank of "
                f"{short} or less, or put this matrix in a group with rank None, where it steps without projection"
            )
        return None
    return int(rank)


def matrices_of(
    model: nn.Module,
    targets: str | Iterable[str] = ALL_LINEAR,
    exclude: Iterable[str] = (),
    trained: Iterable[str] = (),
) -> set[int]:
    """Return the ids of the weights of the layers that ``targets`` names; under an adapter that of its base.

    A weight that is computed (a parametrisation, a quantised layer) is no parameter and thus not projected.
    """
    layers = select_targets(model, targets, exclude, trained).values()
    modules = [layer.base if isinstance(layer, Adapted) else layer for layer in layers]
    return {id(own) for module in modules for name, own in module.named_parameters(recurse=False) if name == "weight"}


def layers_of(groups: Iterable[Mapping[str, Any]], names: Mapping[nn.Parameter, str]) -> list[Layer]:
    """Return the numbered blocks that the names tell; a matrix without a name is a block of its own.

    What is frozen when the optimizer is made belongs to no block and stays frozen.
    """
    found: dict[str, Layer] = {}
    for group in groups:
        for place, parameter in enumerate(group["params"]):
            if not parameter.requires_grad:
                continue
            path = block_of(names[parameter]) if parameter in names else None
            if parameter not in names and short_side(parameter) and not group.get("plain"):
                path = f"matrix {len(found)} {place}"
            if path is None:
                continue
            layer = found.setdefault(path, Layer(path))
            layer.parameters.append(parameter)
            if short_side(parameter):
                layer.matrices.append(parameter)
    return list(found.values())


def _named(each: Any, names: dict[nn.Parameter, str]) -> nn.Parameter:
    if isinstance(each, tuple) and len(each) == 2 and isinstance(each[0], str):
        names[each[1]] = each[0]
        each = each[1]
    if not isinstance(each, Tensor):
        raise UsageError(f"an optimizer steps parameters, not a {type(each).__name__}; give model.parameters()")
    return each  # type: ignore[return-value]


def _groups_of_model(
    model: nn.Module, targets: str | Iterable[str], exclude: Iterable[str]
) -> tuple[list[dict[str, Any]], dict[nn.Parameter, str]]:
    names = {parameter: name for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not names:
        raise UsageError("nothing in this model is trained; set requires_grad on the parameters that are")
    inside = matrices_of(model, targets, exclude)
    matrices = [p for p in names if id(p) in inside]
    if not matrices:
        raise UsageError("none of the layers that are to be projected is trained; see targets and exclude")
    others = [p for p in names if id(p) not in inside]
    groups: list[dict[str, Any]] = [{"params": matrices, "strict": True}]
    return ([*groups, {"params": others, "plain": True}] if others else groups), names
