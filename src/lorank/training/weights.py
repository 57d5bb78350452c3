"""What a run trains: a low-rank adapter with the new head, the head alone, or every weight."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from lorank import lowrank
from lorank.errors import UsageError
from lorank.lowrank.forms.form import form_type
from lorank.lowrank.presets import preset
from lorank.lowrank.starts import Statistics
from lorank.ranking.scorers.ranker import TrainableRanker
from lorank.training.settings import AdapterSettings

WHOLE = ("full", "head")


class Weights(Protocol):
    """What is trained: an adapter, a head, or a whole module."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return optimizer groups: ``params``, and ``lr`` where it differs from the run's."""
        ...

    def set_training_mode(self) -> None:
        """Switch on what behaves differently in training, such as dropout."""
        ...

    def advance(self, step: int, steps: int) -> None:
        """Update what follows a schedule after ``step`` of ``steps``."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Return all that training changes, by name."""
        ...

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what ``state`` gave."""
        ...


class AdapterWeights:
    """An attached adapter, together with the modules that it trains whole (new heads and poolers)."""

    def __init__(
        self,
        ranker: TrainableRanker,
        settings: AdapterSettings,
        seed: int,
        head_lr: float | None,
        statistics: Mapping[str, Statistics] | None = None,
        ranks: Mapping[str, int] | None = None,
        start_options: Mapping[str, object] | None = None,
    ) -> None:
        self.ranker, self.head_lr, self.base_dropout = ranker, head_lr, settings.base_dropout
        self._attach = partial(
            lowrank.attach,
            ranker.module,
            settings.name,
            rank=settings.rank,
            alpha=settings.alpha,
            targets=settings.targets,
            exclude=settings.exclude,
            dropout=settings.dropout,
            seed=seed,
            trained=new_modules(ranker),
            start=settings.start,
            scaling=settings.scaling,
            options=settings.options,
            start_options=start_options,
            statistics=statistics,
            ranks=ranks,
            alphas=_alphas(settings, ranks),
        )
        self.adapter = self._attach()

    def restart(self) -> None:
        """Attach the adapter anew, as it was before the first step; modules trained whole keep their values."""
        self.adapter.detach()
        self.adapter = self._attach()

    def set_training_mode(self) -> None:
        """Put the updates in training mode, and the base too where its dropout is kept."""
        self.ranker.module.train(self.base_dropout)
        for form in self.adapter.forms.values():
            form.train()

    def advance(self, step: int, steps: int) -> None:
        """Tell forms that follow a schedule how far training is."""
        self.adapter.advance(step, steps)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the factors and, where its rate differs, the head as a group of its own."""
        return parameter_groups(dict(self.adapter.named_parameters()), self.ranker, self.head_lr)

    def state(self) -> dict[str, Tensor]:
        """Return the adapter's tensors, heads included."""
        return {k: v.detach().clone() for k, v in self.adapter.state().items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what ``state`` gave."""
        self.adapter.load_state(state)


class WholeWeights:
    """Every weight of the module ("full"), or only what the checkpoint did not bring ("head").

    They are the parameters of the moment when this is made: an optimizer may let some of them rest, and a compression
    may put other layers in their places once they are trained.
    """

    adapter = None

    def __init__(self, ranker: TrainableRanker, settings: AdapterSettings, head_lr: float | None) -> None:
        self.ranker, self.head_lr = ranker, head_lr
        heads = {id(p) for _, p in ranker.head_parameters()}
        if settings.name == "head" and not heads:
            raise UsageError(
                f"adapter 'head' trains what a checkpoint did not bring, and {ranker.base!r} brought "
                "everything; choose a low-rank adapter, or 'full'"
            )
        for parameter in ranker.module.parameters():
            parameter.requires_grad_(settings.name == "full" or id(parameter) in heads)
        self._trained = {name: own for name, own in ranker.module.named_parameters() if own.requires_grad}

    def set_training_mode(self) -> None:
        """Put the whole module in training mode."""
        self.ranker.module.train()

    def advance(self, step: int, steps: int) -> None:
        """Do nothing: whole weights follow no schedule."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the trained parameters, the head as a group of its own where its rate differs."""
        return parameter_groups(self._trained, self.ranker, self.head_lr)

    def state(self) -> dict[str, Tensor]:
        """Return the trained parameters by name."""
        return {name: parameter.detach().clone() for name, parameter in self._trained.items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what ``state`` gave."""
        with torch.no_grad():
            for name, parameter in self._trained.items():
                parameter.copy_(state[name])

    def restart(self) -> None:
        """Do nothing: whole weights are put back by what remembers them."""


def make_weights(
    ranker: TrainableRanker,
    settings: AdapterSettings,
    seed: int,
    head_lr: float | None,
    statistics: Mapping[str, Statistics] | None = None,
    ranks: Mapping[str, int] | None = None,
    start_options: Mapping[str, object] | None = None,
) -> AdapterWeights | WholeWeights:
    """Attach the adapter that ``settings`` names, or choose whole weights for "full" and "head".

    Args:
        ranker: The ranker, which is changed in place.
        settings: The settings of the adapter.
        seed: The seed of the adapter's draws.
        head_lr: The learning rate of the head, above 0; None takes the run's.
        statistics: What the calibration pass found of each layer, by path, for starts that read it.
        ranks: The rank of each layer, by path, from a budget; None takes the adapter's.
        start_options: The options of the start.
    """
    for module in ranker.module.modules():
        if isinstance(module, lowrank.Adapted):
            module.unmerge()
    if settings.name in WHOLE:
        return WholeWeights(ranker, settings, head_lr)
    return AdapterWeights(ranker, settings, seed, head_lr, statistics, ranks, start_options)


def _alphas(settings: AdapterSettings, ranks: Mapping[str, int] | None) -> dict[str, float] | None:
    """Return alphas by layer that keep the scale of the settings at a budget's ranks, where an alpha is set."""
    own = None if ranks is None or settings.alpha is None else rank_of(settings)
    if ranks is None or settings.alpha is None or not own:
        return None
    power = 1.0 if (settings.scaling or preset(settings.name).scaling) == "lora" else 0.5
    return {path: settings.alpha * (max(rank, 1) / own) ** power for path, rank in ranks.items()}


def new_modules(ranker: TrainableRanker) -> list[str]:
    """Return the modules that hold parameters the checkpoint did not bring, e.g. "classifier".

    Of a ranker that starts from nothing only the last module counts: its random layers are then the base.
    """
    names = [name.rpartition(".")[0] for name, _ in ranker.head_parameters()]
    return names[-1:] if starts_from_nothing(ranker) else sorted(set(names))


def starts_from_nothing(ranker: TrainableRanker) -> bool:
    """Return True where no parameter came from a checkpoint."""
    return sum(1 for _ in ranker.head_parameters()) == sum(1 for _ in ranker.module.parameters())


def resolve_adapter(settings: AdapterSettings, ranker: TrainableRanker) -> AdapterSettings:
    """Return the settings with the name "auto" and the rank decided."""
    if settings.name == "auto":
        settings = replace(settings, name="full" if starts_from_nothing(ranker) else "lora")
    return settings if settings.name in WHOLE else replace(settings, rank=rank_of(settings))


def rank_of(settings: AdapterSettings) -> int:
    """Return the stated rank, or the usual one of the method's form.

    >>> rank_of(AdapterSettings("lora")), rank_of(AdapterSettings("lora", rank=3))
    (8, 3)
    """
    return form_type(preset(settings.name).form).usual_rank if settings.rank is None else settings.rank


def parameter_groups(
    parameters: dict[str, nn.Parameter], ranker: TrainableRanker, head_lr: float | None
) -> list[dict[str, Any]]:
    """Return optimizer groups of parameters, the head of the ranker as its own where it has a rate ``head_lr``."""
    if head_lr is None:
        return [{"params": list(parameters.values())}]
    heads = {id(p) for _, p in ranker.head_parameters()}
    body = [p for p in parameters.values() if id(p) not in heads]
    head = [p for p in parameters.values() if id(p) in heads]
    groups: list[dict[str, Any]] = [{"params": body}]
    return [*groups, {"params": head, "lr": head_lr}] if head else groups
