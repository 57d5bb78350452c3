"""The registry of losses: a plain dictionary, the decorator that fills it, and the look-up with options."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lorank.catalogue import catalogued
from lorank.errors import unknown_name

Loss = Callable[..., Tensor]
"""``loss(scores [batch, list], labels [batch, list], mask [batch, list], weights=None, **options) -> scalar``."""

LOSSES: dict[str, Loss] = {}
"""Every registered loss under its published name."""

ALIASES: dict[str, str] = {}
"""Other names in common use, each to a name in ``LOSSES``."""


def register_loss(
    name: str, *, title: str, area: str = "losses.supervised", aliases: tuple[str, ...] = ()
) -> Callable[[Loss], Loss]:
    """Decorate a loss to enter it in ``LOSSES`` and in the catalogue under ``name``."""

    def enter(function: Loss) -> Loss:
        LOSSES[name] = catalogued(name, area=area, title=title)(function)
        ALIASES.update(dict.fromkeys(aliases, name))
        return function

    return enter


def loss_options(name: str) -> Mapping[str, Any]:
    """Return the options of a loss and their defaults.

    >>> dict(loss_options("ranknet"))
    {'sigma': 1.0}
    """
    parameters = inspect.signature(_find(name)).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def loss(name: str, **options: Any) -> Loss:
    """Return the loss called ``name`` with its options set.

    Args:
        name: A name in ``LOSSES``, or one of ``ALIASES``.
        options: The loss's own keyword arguments; names and values are checked here, not at the first batch.

    Returns:
        A function of (scores, labels, mask, weights) as every loss in ``LOSSES`` is.

    Raises:
        UsageError: For an unknown loss, an unknown option, or a value that the loss refuses.

    >>> pairwise = loss("ranknet", sigma=2.0)
    >>> pairwise(torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 0.0]]))   # log 2
    tensor(0.6931)
    """
    function = _find(name)
    known = loss_options(name)
    for option in options:
        if option not in known:
            raise unknown_name(f"option of loss {name!r}:", option, known)
    configured = partial(function, **options)
    configured(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), torch.ones(1, 2, dtype=torch.bool))
    return configured


def _find(name: str) -> Loss:
    known = ALIASES.get(name, name)
    if known not in LOSSES:
        raise unknown_name("loss", name, [*LOSSES, *ALIASES])
    return LOSSES[known]
