"""The updates that lie on a model, and what can be done with them: switch, merge, take off, save, export."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lorank.errors import LorankError, UsageError
from lorank.lowrank.forms import Form
from lorank.lowrank.layer import Adapted, replace_module
from lorank.lowrank.settings import Settings
from lorank.lowrank.targets import is_within

if TYPE_CHECKING:
    from lorank.lowrank.agreement import Probe
    from lorank.lowrank.export import ExportReport


def named_tensors(modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Return every tensor that ``modules`` save under ``path.key``, each once: live ones, detached."""
    named: dict[str, Tensor] = {}
    seen: set[int] = set()
    for path, module in modules.items():
        for key, tensor in module.state_dict(keep_vars=True).items():
            if id(tensor) not in seen:
                seen.add(id(tensor))
                named[f"{path}.{key}"] = tensor.detach()
    return named


@torch.no_grad()
def copy_tensors(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Copy ``state`` into the tensors ``own``; LorankError unless every name and shape fits."""
    missing, unknown = own.keys() - state.keys(), state.keys() - own.keys()
    if missing or unknown:
        raise LorankError(
            f"the state does not fit this adapter: missing {sorted(missing)[:3]}, "
            f"unknown {sorted(unknown)[:3]}; attach with the same method, targets and start"
        )
    for key, tensor in own.items():
        if tensor.shape != state[key].shape:
            raise LorankError(f"{key} has shape {tuple(state[key].shape)}, the adapter has {tuple(tensor.shape)}")
        tensor.copy_(state[key])


class Adapter:
    """The updates that one ``attach`` or ``load`` put on a model, and the modules trained whole with them.

    ``layers`` maps paths to ``Adapted`` layers, ``forms`` paths to this adapter's updates, ``trained`` paths
    to the modules trained whole.
    """

    def __init__(
        self,
        model: nn.Module,
        name: str,
        settings: Settings,
        layers: dict[str, Adapted],
        trained: dict[str, nn.Module],
        was_trained: dict[int, bool],
    ) -> None:
        self.model, self.name, self.settings = model, name, settings
        self.layers, self.trained = layers, trained
        self._was_trained = was_trained

    @property
    def forms(self) -> dict[str, Form]:
        """This adapter's update of each layer, by path."""
        return {path: layer.forms[self.name] for path, layer in self.layers.items()}

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield (path, parameter) of all that is trained: the updates', then the whole modules'; each once."""
        seen: set[int] = set()
        for path, module in (*self.forms.items(), *self.trained.items()):
            for key, parameter in module.named_parameters():
                if id(parameter) not in seen and parameter.requires_grad:
                    seen.add(id(parameter))
                    yield f"{path}.{key}", parameter

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of ``named_parameters``."""
        for _, parameter in self.named_parameters():
            yield parameter

    def num_parameters(self) -> int:
        """Return how many values are trained, whole modules included."""
        return sum(parameter.numel() for parameter in self.parameters())

    def state(self) -> dict[str, Tensor]:
        """Return every tensor of the adapter under its path: live ones, detached; clone to keep."""
        return named_tensors({**self.forms, **self.trained})

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Copy in what ``state`` gave; every name and shape must fit.

        Raises:
            LorankError: naming the tensors that are missing, unknown or of another shape.
        """
        copy_tensors(self.state(), state)

    def activate(self, *names: str) -> None:
        """Sum the adapters called ``names`` from now on, this one alone where none is named."""
        chosen = names or (self.name,)
        layers = [module for module in self.model.modules() if isinstance(module, Adapted)]
        known = {name for layer in layers for name in layer.forms}
        if not set(chosen) <= known:
            raise UsageError(f"no adapter called {sorted(set(chosen) - known)[0]!r}; there are {sorted(known)}")
        for layer in layers:
            layer.activate(chosen)

    @property
    def merged(self) -> bool:
        """True while the model's own weights hold the update."""
        return any(layer.merged for layer in self.layers.values())

    @property
    def mergeable(self) -> bool:
        """False where an update routes tokens, so that no one matrix stands for it, and on quantised layers."""
        fits = not any(layer.frozen.quantised for layer in self.layers.values())
        return fits and all(form.mergeable for form in self.forms.values())

    def merge(self) -> None:
        """Write W + dW (of all active adapters) into this adapter's layers, added in float32 or better."""
        for layer in self.layers.values():
            layer.merge()

    def unmerge(self) -> None:
        """Put the model's own weights back, bit by bit."""
        for layer in self.layers.values():
            layer.unmerge()

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Within it this adapter's layers compute with the model's own weights; whole modules stay as trained."""
        merged = self.merged
        self.unmerge()
        enabled = [layer.enabled for layer in self.layers.values()]
        for layer in self.layers.values():
            layer.enabled = False
        try:
            yield
        finally:
            for layer, was in zip(self.layers.values(), enabled, strict=True):
                layer.enabled = was
            if merged:
                self.merge()

    def detach(self) -> nn.Module:
        """Take the updates off the model, which has its own weights again, and return it.

        Modules trained whole keep their values; parameters are trainable as they were before ``attach``.
        """
        for path, layer in self.layers.items():
            layer.remove(self.name)
            if not layer.forms:
                replace_module(self.model, path, layer.base)
        for parameter in self.model.parameters():
            parameter.requires_grad_(self._was_trained.get(id(parameter), parameter.requires_grad))
        return self.model

    def holds(self, path: str) -> bool:
        """Return whether ``path`` lies in a module that is trained whole."""
        return any(is_within(path, head) for head in self.trained)

    def save(
        self,
        folder: str | Path,
        *,
        base_name: str | None = None,
        task_type: str | None = None,
        probe: "Probe | None" = None,
    ) -> list[Path]:
        """Write the adapter folder; see ``folder.save``."""
        from lorank.lowrank import folder as folders

        return folders.save(self, folder, base_name=base_name, task_type=task_type, probe=probe)

    def export(
        self,
        folder: str | Path,
        format: str = "peft",
        *,
        probe: "Probe | None" = None,
        limit: float | None = 1e-4,
        base_name: str | None = None,
        task_type: str | None = None,
        rank: int | None = None,
        energy: float | None = None,
        dtype: torch.dtype = torch.float32,
        tokenizer: object | None = None,
    ) -> "ExportReport":
        """Write the adapter for others to load; see ``export.export``."""
        from lorank.lowrank.export import ExportOptions, export

        options = ExportOptions(base_name, task_type, rank, energy, dtype, tokenizer)
        return export(self, folder, format, probe=probe, limit=limit, options=options)
