"""The registry of networks that score feature rows, and what a network that learns in its own way is given."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lorank.errors import UsageError, unknown_name
from lorank.progress import ProgressCallback
from lorank.ranking.losses.core.registry import Loss
from lorank.ranking.scorers.features.descent import Descent, descend, informative_lists
from lorank.ranking.scorers.features.rows import FeatureLists, grid_of


@dataclass(frozen=True)
class Lesson:
    """What a network learns from: transformed rows [documents, features] of packed lists, and how it is judged.

    ``within`` is the part of the transform that looks across a list; ``loss`` is None where the caller named none;
    ``dev`` measures the network on held-out lists.
    """

    module: nn.Module
    inputs: Tensor
    lists: FeatureLists
    within: Callable[[Tensor, Tensor], Tensor] | None
    loss: Loss | None
    settings: Descent
    seed: int
    dev: Callable[[], float] | None
    on_progress: ProgressCallback | None

    def grid(self, chosen: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Return rows [batch, list, features], labels [batch, list] and the mask of the chosen lists."""
        places, mask = grid_of(self.lists.offsets, chosen)
        labels = torch.from_numpy(np.asarray(self.lists.labels, np.float32))[places]
        rows = self.inputs[places].masked_fill(~mask.unsqueeze(2), 0.0)
        return (rows if self.within is None else self.within(rows, mask)), labels, mask

    def descend(self, objective: Callable[[Tensor, Tensor, Tensor], Tensor]) -> list[float]:
        """Train the module by an objective of (rows, labels, mask)."""
        return descend(
            self.module,
            lambda chosen: objective(*self.grid(chosen)),
            informative_lists(self.lists),
            self.settings,
            seed=self.seed,
            dev=self.dev,
            on_progress=self.on_progress,
        )


def by_own_objective(lesson: Lesson) -> None:
    """Train a module that has an ``objective`` of its own; refuse a loss, which it has no use for."""
    if lesson.loss is not None:
        raise UsageError("this feature model learns by its own objective and takes no loss")
    lesson.descend(lesson.module.objective)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Network:
    """How a network is built, and whether a document's score depends on the others of its list.

    ``build(features, generator, **options)`` gives a module that maps rows [..., features] to [..., 1], or, where it
    looks ``across`` the list, (rows [batch, list, features], mask [batch, list]) to scores [batch, list]. ``learn``
    is given where the network does not learn by descending a loss of scores; ``reads`` are then the fields of
    `Descent` that it goes by. ``categories`` names the option that lists columns of categories, which no transform
    changes.
    """

    build: Callable[..., nn.Module]
    across: bool
    learn: Callable[[Lesson], None] | None = None
    reads: Sequence[str] = ()
    categories: str = ""

    @property
    def takes_loss(self) -> bool:
        """Whether it learns by a loss that can be chosen."""
        return self.learn is not by_own_objective

    @property
    def options(self) -> Mapping[str, Any]:
        """The network's own options and their defaults."""
        parameters = inspect.signature(self.build).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


NETWORKS: dict[str, Network] = {}
"""Every registered network by name."""


def register_network(
    name: str,
    *,
    across: bool = False,
    learn: Callable[[Lesson], None] | None = None,
    reads: Sequence[str] | None = None,
    categories: str = "",
) -> Callable[[Callable[..., nn.Module]], Callable[..., nn.Module]]:
    """Decorate a builder to enter it in ``NETWORKS`` under ``name``.

    Args:
        name: The name by which the network is chosen.
        across: True if a document's score depends on the others of its list.
        learn: It trains the network where the network does not descend a loss of scores.
        reads: The fields of ``Descent`` that ``learn`` reads; None stands for all of them.
        categories: The option that lists the columns of categories, from 1; "" where there is none.
    """
    if reads is None:
        reads = () if learn is None else tuple(field.name for field in fields(Descent))

    def enter(build: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
        NETWORKS[name] = Network(build, across, learn, reads, categories)
        return build

    return enter


def find_network(name: str, options: Mapping[str, Any]) -> Network:
    """Return the network called ``name``; raise UsageError for an unknown name or option."""
    if name not in NETWORKS:
        raise unknown_name("feature model", name, NETWORKS)
    known = NETWORKS[name].options
    for option in options:
        if option not in known:
            raise unknown_name(f"option of feature model {name!r}:", option, known)
    return NETWORKS[name]
