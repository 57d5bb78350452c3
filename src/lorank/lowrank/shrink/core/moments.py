r"""What the layers of a model read while it computes: per layer the count, the sum and the second moment of its inputs.

    n = sum 1,   sum = sum x [in],   second = sum x x^T [in, in]          over real tokens, in float64
    frequencies [rows]                                                    how often each row of a table is looked up

Nothing but these sums is kept, so that calibration takes any number of texts.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lorank.errors import UsageError
from lorank.lowrank.calibration import real_rows

Calibration = Callable[[nn.Module], object] | Iterable[Any]
"""What shows a model its inputs: a function that runs it, or batches (its arguments by name, or the first one)."""


@dataclass
class Moments:
    """The sums over the inputs of one layer; ``frequencies`` of a table alone."""

    count: int = 0
    sum: Tensor = field(default_factory=lambda: torch.zeros(0))
    second: Tensor = field(default_factory=lambda: torch.zeros(0, 0))
    frequencies: Tensor | None = None

    def add(self, rows: Tensor) -> None:
        """Add inputs [n, in]."""
        if not self.count:
            self.sum = rows.new_zeros(rows.shape[1], dtype=torch.float64)
            self.second = rows.new_zeros(rows.shape[1], rows.shape[1], dtype=torch.float64)
        rows = rows if rows.dtype is torch.float64 else rows.float()
        self.count += len(rows)
        self.sum += rows.sum(0)
        self.second += rows.t() @ rows

    def count_rows(self, ids: Tensor, rows: int) -> None:
        """Add looked-up row numbers [...] of a table of ``rows`` rows."""
        found = torch.bincount(ids.reshape(-1), minlength=rows).double()
        self.frequencies = found if self.frequencies is None else self.frequencies + found
        self.count += ids.numel()

    @property
    def mean(self) -> Tensor:
        """The mean input [in]."""
        return self.sum / self.count

    @property
    def covariance(self) -> Tensor:
        """The covariance of the inputs [in, in]."""
        return self.second / self.count - torch.outer(self.mean, self.mean)


@torch.no_grad()
def gather_moments(model: nn.Module, layers: Mapping[str, nn.Module], calibration: Calibration) -> dict[str, Moments]:
    """Return the moments of the inputs of ``layers`` by path, in evaluation mode.

    Args:
        model: The model that holds the layers.
        layers: Linear layers and embedding tables, by path.
        calibration: What shows the model its inputs.

    Raises:
        UsageError: Where some layer read nothing: there are no batches, or their texts are empty.

    >>> model = nn.Sequential(nn.Linear(3, 2)); found = gather_moments(model, {"0": model[0]}, [torch.ones(4, 3)])
    >>> found["0"].count, found["0"].mean.tolist()
    (4, [1.0, 1.0, 1.0])
    """
    found = {path: Moments() for path in layers}
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with _watching(model, layers, found):
            if callable(calibration):
                calibration(model)
            else:
                for batch in calibration:
                    model(**batch) if isinstance(batch, Mapping) else model(batch)
    finally:
        for module, training in modes:
            module.training = training
    silent = [path for path, moments in found.items() if not moments.count]
    if silent:
        raise UsageError(
            f"the calibration has shown {silent[0]} no input ({len(silent)} of {len(found)} layers); give texts that "
            "are not empty and reach every layer, or leave the layer out (exclude)"
        )
    return found


@contextmanager
def _watching(model: nn.Module, layers: Mapping[str, nn.Module], found: Mapping[str, Moments]) -> Iterator[None]:
    mask: list[Tensor] = []

    def note_mask(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        mask[:] = [kwargs["attention_mask"]] if kwargs.get("attention_mask") is not None else []

    def watch(path: str, layer: nn.Module) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def note(_: nn.Module, args: tuple[Any, ...]) -> None:
            if isinstance(layer, nn.Embedding):
                found[path].count_rows(args[0], layer.num_embeddings)
            else:
                found[path].add(real_rows(args[0].detach(), mask[0] if mask else None))

        return note

    handles = [model.register_forward_pre_hook(note_mask, with_kwargs=True)]
    handles += [layer.register_forward_pre_hook(watch(path, layer)) for path, layer in layers.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
