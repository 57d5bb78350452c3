"""The updates that lie on a model, and what can be done with them there: switch, merge, take off."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn

from lorank.errors import LorankError, UsageError
from lorank.lowrank.forms import Form
from lorank.lowrank.forms.schedule import watch_steps
from lorank.lowrank.freeze import Freeze
from lorank.lowrank.layer import Adapted
from lorank.lowrank.module_tree import replace_modules
from lorank.lowrank.offload import refuse_offloaded
from lorank.lowrank.settings import Settings
from lorank.lowrank.wrapped import freezes_of


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


class Updates:
    """The updates that one adapter is, on a model, and the modules trained whole with them.

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
        freeze: Freeze,
    ) -> None:
        self.model, self.name, self.settings = model, name, settings
        self.layers, self.trained = layers, trained
        self.freeze = freeze
        for form in self.forms.values():
            watch_steps(form)

    @property
    def forms(self) -> dict[str, Form]:
        """This adapter's update of each layer, by path."""
        return {path: cast(Form, layer.forms[self.name]) for path, layer in self.layers.items()}

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

    def advance(self, step: int, total: int) -> None:
        """Tell the updates that ``step`` of ``total`` optimizer steps are done: forms with a schedule follow it.

        A training loop calls it with step 0 before its first step and after each optimizer step. Forms without a
        schedule need none of it. Data-parallel processes must all call it at the same steps.

        >>> from lorank import lowrank
        >>> adapter = lowrank.attach(nn.Sequential(nn.Linear(3, 2)), "singlora", rank=1)
        >>> adapter.advance(5, 1000); round(adapter.forms["0"].u.item(), 6)
        0.5
        """
        for form in self.forms.values():
            form.advance(step, total)

    def state(self) -> dict[str, Tensor]:
        """Return every tensor of the adapter under its path: live ones, detached; clone to keep.

        Raises:
            UsageError: while accelerate keeps them elsewhere.
        """
        for path, form in self.forms.items():
            refuse_offloaded(path, form, "read")
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
        """Make the weights of this adapter's layers W + dW (of all adapters that run), added in float32 or better.

        Raises:
            UsageError: where a layer cannot hold it; then no layer is merged.
        """
        fresh = [(path, layer) for path, layer in self.layers.items() if not layer.merged]
        for path, layer in fresh:
            layer.frozen.check_mergeable(path)
            for name in layer.running:
                refuse_offloaded(path, layer.forms[name], "merged")
        try:
            for _, layer in fresh:
                layer.merge()
        except BaseException:  # whatever stopped it, the model goes back as it came
            for _, layer in fresh:
                layer.unmerge()
            raise

    def unmerge(self) -> None:
        """Put the model's own weights back, bit by bit."""
        for layer in self.layers.values():
            layer.unmerge()

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Within it the model computes without this adapter's updates; whole modules stay as trained.

        Other adapters on the same layers run as before.
        """
        merged = [layer for layer in self.layers.values() if layer.merged]
        running = [layer for layer in self.layers.values() if self.name not in layer.off]
        for layer in merged:
            layer.unmerge()
        for layer in running:
            layer.switch(self.name, False)
        try:
            for layer in merged:
                layer.merge()
            yield
        finally:
            for layer in merged:
                layer.unmerge()
            for layer in running:
                layer.switch(self.name, True)
            for layer in merged:
                layer.merge()

    def detach(self) -> nn.Module:
        """Take the updates off the model, which has its own weights again, and return it.

        Modules trained whole keep their values; parameters are trainable as they were before this adapter came, but
        for those that an adapter which stays has frozen. Layers that this adapter quantised are dense again.

        Raises:
            UsageError: where the adapter is not on the model any more.
        """
        if any(self.name not in layer.forms for layer in self.layers.values()):
            raise UsageError(f"adapter {self.name!r} is not on the model any more")
        for layer in self.layers.values():
            layer.remove(self.name)
        bare = [layer for layer in self.layers.values() if not layer.forms]
        replace_modules(self.model, [(layer, layer.give_back()) for layer in bare])
        self.freeze.undo(freezes_of(self.model))
        return self.model
