"""The registry of losses: a plain dictionary, the decorator that fills it, and the look-up with options.

Most losses are functions of scores, labels, mask and weights. One that needs more says what it *requires*, by names of
``EXTRAS``, and takes it as keyword tensors; the training loop hands it over. One that remembers something between
calls is a class: its options make it, calling it gives the loss, and ``state_dict`` and ``load_state_dict`` carry its
memory through a checkpoint.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from lorank.catalogue import catalogued
from lorank.errors import UsageError, unknown_name

Entered = TypeVar("Entered", bound=Callable[..., Any])

Loss = Callable[..., Tensor]
"""``loss(scores [batch, list], labels [batch, list], mask [batch, list], weights=None, **options) -> scalar``."""

EXTRAS: dict[str, Tensor] = {
    "items": torch.tensor([[0, 1]]),
    "lists": torch.tensor([0]),
    "users": torch.tensor([0]),
    "outside": torch.tensor([False]),
    "epoch": torch.tensor(0.0),
    "first_stage": torch.zeros(1, 2),
    "reference": torch.zeros(1, 2),
    "positions": torch.tensor([[1, 2]]),
    "propensities": torch.ones(1, 2),
    "noise_seed": torch.tensor(0),
    "listwise": torch.zeros(1, 2, dtype=torch.bool),
    "opponent": torch.zeros(1, 2),
    "draws": torch.tensor([[0.0, 1.0]]),
    "representations": torch.eye(2, 3).unsqueeze(0),
    "head": torch.ones(3),
}
"""What a loss may require, each with an example for one list of two.

``items`` int64 [batch, list] tells (query, document) pairs apart and ``lists`` int64 [batch] queries, both alike at
every epoch; ``users`` int64 [batch] is who asked; ``outside`` bool [batch] says of which lists nothing was
chosen (only a loss that requires it gets such lists); ``epoch`` counts from 0; ``first_stage`` [batch, list] are the
candidates' scores; ``positions`` int64 [batch, list] are where a document was shown, from 1 (0: it was not), or its
rank at the first stage; ``propensities`` [batch, list] are a click log's own, 0 where it states none; ``noise_seed`` is
an int64 scalar, new at every step and the same in a resumed run; ``reference`` [batch, list] are scores without a
gradient, of the same ranker as it was before training or of a run; ``listwise`` bool [batch, list] is True at the own
documents of a query that is asked by a prompt which lists its candidates; ``opponent`` [batch, list] are the scores of
a ranker that is trained against the run, without a gradient, and ``draws`` [batch, list] how often each document was
drawn as a negative; ``representations`` [batch, list, dim] are what a linear head reads of each document, with their
graph, and ``head`` [dim] are its weights."""

LOSSES: dict[str, Loss] = {}
"""Every registered loss under its published name."""

ALIASES: dict[str, str] = {}
"""Other names in common use, each to a name in ``LOSSES``."""


def register_loss(
    name: str,
    *,
    title: str,
    area: str = "losses.supervised",
    aliases: tuple[str, ...] = (),
    requires: Iterable[str] = (),
    contrast: bool = True,
) -> Callable[[Entered], Entered]:
    """Decorate a loss, or the class that makes one, to enter it in ``LOSSES`` and in the catalogue under ``name``.

    Args:
        name: The published name, by which the loss is chosen.
        title: The title of the loss in the catalogue.
        area: The area of the catalogue that lists the loss.
        aliases: Other names in common use for the same loss.
        requires: The extra inputs that the loss takes, each a name in ``EXTRAS``.
        contrast: False marks a loss that is meant to learn from lists whose documents are all relevant.
    """

    def enter(function: Entered) -> Entered:
        function.contrast = contrast  # type: ignore[attr-defined]
        catalogued(name, area=area, title=title)(function)
        return enter_loss(name, aliases=aliases, requires=requires)(function)

    return enter


def enter_loss(
    name: str, *, aliases: tuple[str, ...] = (), requires: Iterable[str] = ()
) -> Callable[[Entered], Entered]:
    """Decorate a loss, or the class that makes one, to enter it in ``LOSSES`` alone.

    A loss whose id the catalogue has for another part of the same paper, such as a strategy, is entered so.
    """

    def enter(function: Entered) -> Entered:
        function.requires = frozenset(requires)  # type: ignore[attr-defined]
        LOSSES[name] = function
        ALIASES.update(dict.fromkeys(aliases, name))
        return function

    return enter


def loss_options(name: str) -> Mapping[str, Any]:
    """Return the options of a loss and their defaults.

    >>> dict(loss_options("ranknet"))
    {'sigma': 1.0}
    """
    parameters = inspect.signature(find_loss(name)).parameters.values()
    return {
        p.name: p.default
        for p in parameters
        if p.kind is p.KEYWORD_ONLY and p.name not in requirements_of(find_loss(name))
    }


def requirements_of(loss: Loss) -> frozenset[str]:
    """Return the names in ``EXTRAS`` of what a loss takes as keywords.

    >>> sorted(requirements_of(loss("elr")))
    ['items']
    """
    return getattr(loss.func if isinstance(loss, partial) else loss, "requires", frozenset())


def needs_contrast(name: str) -> bool:
    """Return whether the loss called ``name`` is meant for lists that hold documents of different labels.

    >>> needs_contrast("softmax"), needs_contrast("sft")
    (True, False)
    """
    return bool(getattr(find_loss(name), "contrast", True))


def loss(name: str, **options: Any) -> Loss:
    """Return the loss called ``name`` with its options set.

    Args:
        name: A name in ``LOSSES``, or one of ``ALIASES``.
        options: The loss's own keyword arguments; names and values are checked here, not at the first batch.

    Returns:
        A function of (scores, labels, mask, weights), and of what ``requirements_of`` it names.

    Raises:
        UsageError: For an unknown loss, an unknown option, or a value that the loss refuses.

    >>> pairwise = loss("ranknet", sigma=2.0)
    >>> pairwise(torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 0.0]]))   # log 2
    tensor(0.6931)
    """
    function = find_loss(name)
    known = loss_options(name)
    for option in options:
        if option not in known:
            raise unknown_name(f"option of loss {name!r}:", option, known)
    if isinstance(function, type):
        made: Loss = function(**options)
        return made
    configured = partial(function, **options)
    configured(
        torch.zeros(1, 2),
        torch.tensor([[1.0, 0.0]]),
        torch.ones(1, 2, dtype=torch.bool),
        **{name: EXTRAS[name] for name in requirements_of(function)},
    )
    return configured


def plain_loss(name: str) -> Loss:
    """Return the loss called ``name`` to build on; raise UsageError for one that requires more than lists."""
    wanted = requirements_of(find_loss(name))
    if wanted:
        raise UsageError(f"loss {name!r} cannot be built on: it takes {', '.join(sorted(wanted))} itself")
    return loss(name)


def find_loss(name: str) -> Loss:
    """Return the registered loss called ``name``, or by one of its aliases; raise UsageError for an unknown one."""
    known = ALIASES.get(name, name)
    if known not in LOSSES:
        raise unknown_name("loss", name, [*LOSSES, *ALIASES])
    return LOSSES[known]
