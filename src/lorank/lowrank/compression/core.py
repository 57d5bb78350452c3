"""The contract of every method that lowers ranks during training, and its registry."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from lorank.errors import UsageError, unknown_name
from lorank.lowrank.factored.core.replacing import linear_targets
from lorank.lowrank.module_tree import unwrap_model
from lorank.lowrank.targets import ALL_LINEAR


class Compression(ABC):
    """One method on the linear layers of one model.

    Args:
        model: The model, which may be changed in place.
        layers: The layers by path.
        steps: The number of steps of the run.
        seed: The seed of all draws.

    ``factored`` says whether factors are put in the places of the layers' weights.
    """

    factored = False

    def __init__(self, model: nn.Module, layers: Mapping[str, nn.Linear], steps: int, seed: int) -> None:
        self.model, self.layers, self.steps, self.seed = model, dict(layers), steps, seed
        self.shapes = {path: (layer.out_features, layer.in_features) for path, layer in self.layers.items()}

    def parameters(self) -> list[nn.Parameter]:
        """Return the trained parameters of the model."""
        return [p for p in self.model.parameters() if p.requires_grad]

    def before_step(self, step: int) -> None:
        """Run before the forward pass of ``step``, counted from 0."""

    def penalty(self) -> Tensor | None:
        """Return a scalar to add to the loss of this step, or None."""
        return None

    def after_backward(self) -> None:
        """Run when the gradients of this step are there."""

    @abstractmethod
    def finish(self) -> None:
        """Make the final cut; it is made once, and the layers stay in their places."""

    @abstractmethod
    def ranks(self) -> dict[str, int]:
        """Return the rank of every layer as it stands."""

    def merge(self) -> None:
        """Put plain ``nn.Linear`` layers in the places of all others."""

    @contextmanager
    def original(self) -> Iterator[None]:
        """Within it layers that were replaced compute as the model did before; trained values are not put back."""
        yield

    def sizes(self) -> tuple[int, int]:
        """Return how many values the weights take as factors where these are smaller, and how many they are dense."""
        ranks = self.ranks()
        small = sum(min(ranks[path] * (out + width), out * width) for path, (out, width) in self.shapes.items())
        return small, sum(out * width for out, width in self.shapes.values())

    def state(self) -> dict[str, Tensor]:
        """Return what must survive a crash beside the parameters."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what ``state`` gave."""


COMPRESSIONS: dict[str, type[Compression]] = {}
"""Every method under its name."""

Kind = TypeVar("Kind", bound=type[Compression])


def compression(name: str) -> Callable[[Kind], Kind]:
    """Decorate a Compression to register it under ``name``."""

    def enter(cls: Kind) -> Kind:
        COMPRESSIONS[name] = cls
        return cls

    return enter


def compression_options(name: str) -> dict[str, Any]:
    """Return the options of the method called ``name`` with their defaults.

    >>> sorted(compression_options("trp"))
    ['energy', 'every', 'nuclear']
    """
    if name not in COMPRESSIONS:
        raise unknown_name("compression", name, COMPRESSIONS)
    parameters = inspect.signature(COMPRESSIONS[name]).parameters.values()
    return {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}


def make_compression(
    name: str,
    model: nn.Module,
    *,
    steps: int,
    targets: str | Iterable[str] = ALL_LINEAR,
    exclude: Iterable[str] = (),
    seed: int = 0,
    **options: Any,
) -> Compression:
    """Return the method called ``name`` on the linear layers of ``model``.

    Args:
        name: A name of ``COMPRESSIONS``.
        model: The model; it is not changed where anything is refused.
        steps: The number of steps of the run, 1 or more.
        targets: ``"all-linear"``, a regular expression, or names, as in `lorank.lowrank.attach`.
        exclude: Names of modules that are left alone.
        seed: The seed of all draws.
        **options: The method's own options.

    Raises:
        UsageError: For an unknown name or option, and for layers that are quantised, tied, or no plain ``nn.Linear``.
    """
    known = compression_options(name)
    for option in options:
        if option not in known:
            raise unknown_name(f"option of compression {name!r}:", option, known)
    if steps < 1:
        raise UsageError(f"steps={steps}: a run has one step or more")
    inner = unwrap_model(model)
    return COMPRESSIONS[name](inner, linear_targets(inner, targets, exclude), steps, seed, **options)


def numerical_rank(weight: Tensor) -> int:
    """Return how many singular values of ``weight`` are above rounding.

    >>> numerical_rank(torch.ones(3, 4))
    1
    """
    values = torch.linalg.svdvals(weight.detach().float())
    return int((values > 1e-5 * values[0]).sum()) if values.numel() and values[0] > 0 else 0
