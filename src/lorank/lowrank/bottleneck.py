r"""Bottleneck adapters behind modules of a model: scattered one by one, connected to a path, stacked one on another.

    scattered    h_l' = h_l + U_l s_l,    s_l = gelu(D_l h_l + d_l)                     D_l [w, n], U_l [n, w]
    connected    h_l' = h_l + U_l s_l,    s_l = gelu(D_l h_l + d_l + C_l s_{l-1})       C_l [w, w], l = 1, 2, ...
    stacked      h -> h' of the first -> h'' of the second, at every module that has both

h_l is a module's output. Scattered adapters are joined by the frozen model alone: what the lowest learns must pass
through all frozen layers above it, forwards and backwards. The connections C make one path of trained modules beside
the model, along which the lowest adapter's state reaches the highest and gradients come back. Zero start: U = 0, so
the model is unchanged; C = I, so the path carries from the first step. Trained values: a module w (2 n + 1), and w^2
more from the second module of a path on.

These are no updates of one weight: they have a nonlinearity, cannot be merged, and are not a ``Form``. Of the forms'
contract they keep the zero start, freezing, gradients, seeds, names, saving and loading.

Houlsby et al., Parameter-Efficient Transfer Learning for NLP, 2019, arXiv:1902.00751. Connected: Ma et al.,
Scattered or Connected? An Optimized Parameter-efficient Tuning Approach for Information Retrieval, 2022,
arXiv:2208.09847. Stacked: Pfeiffer et al., MAD-X, 2020, arXiv:2005.00052.

*Deviations*: the connected design is reconstructed from the paper's idea that modules alongside the model join the
inserted ones; the paper's own modules may be placed and shaped otherwise.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.errors import DataError, UsageError
from lorank.files import replaced_folder
from lorank.lowrank.forms.basis import draw_uniform
from lorank.lowrank.forms.form import seeded_generator
from lorank.lowrank.freeze import Freeze
from lorank.lowrank.linalg import working_dtype
from lorank.lowrank.module_tree import find_paths, replace_modules, unwrap_model
from lorank.lowrank.pathway import Pathway
from lorank.lowrank.targets import resolve_modules
from lorank.lowrank.wrapped import Wrapped, freezes_of, move_hooks
from lorank.manifest import add_manifest, check_manifest, read_unchanged


class Bottleneck(nn.Module):
    """One bottleneck on an output of width n; the ``place`` on its path counts from 0."""

    def __init__(self, like: Tensor, width: int, path: Pathway | None, place: int, generator: torch.Generator) -> None:
        super().__init__()
        n, dtype, device = len(like), working_dtype(like), like.device
        self.D = nn.Parameter(draw_uniform((width, n), generator).to(device, dtype))
        self.d = nn.Parameter(torch.zeros(width, dtype=dtype, device=device))
        self.U = nn.Parameter(torch.zeros(n, width, dtype=dtype, device=device))
        self.path, self.place = path, place
        if path is not None and place:
            self.C = nn.Parameter(torch.eye(width, dtype=dtype, device=device))

    def forward(self, h: Tensor) -> Tensor:
        """Return h' [..., n]."""
        inner = nn.functional.linear(h.to(self.D.dtype), self.D, self.d)
        if self.path is not None and self.place:
            inner = inner + nn.functional.linear(self.path.read(self.place, h), self.C)
        state = nn.functional.gelu(inner)
        if self.path is not None:
            self.path.write(self.place, state)
        return h + nn.functional.linear(state, self.U).to(h.dtype)


class WithBottlenecks(Wrapped):
    """A frozen module and the bottlenecks behind it; the active ones run one after another."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__(base)
        self.bottlenecks = nn.ModuleDict()
        self.active: tuple[str, ...] = ()

    def forward(self, *args: object, **keywords: object) -> Tensor:
        """Return the base's output, adapted."""
        h = self.base(*args, **keywords)
        for name in self.active:
            h = self.bottlenecks[name](h)
        return h


@catalogued(
    "scattered-connected-iaa",
    area="adapters.form",
    title="Scattered or Connected? An Optimized Parameter-efficient Tuning Approach for Information Retrieval",
    reach=(
        "Python alone: its modules stand between layers and change no weight, so recipes, exports and "
        "the adapter commands cannot hold them"
    ),
)
def attach_bottlenecks(
    model: nn.Module,
    targets: str | Iterable[str],
    *,
    width: int = 8,
    connected: bool = True,
    trained: Iterable[str] = (),
    name: str = "default",
    seed: int = 0,
) -> "BottleneckAdapter":
    """Put a bottleneck behind each target module, in place, and freeze everything else.

    Args:
        model: any module.
        targets: names or suffixes of names of linear layers or layer norms, or a regular expression for the whole
            path; those of a path run in the order in which the model lists them.
        width: w, from 1 up.
        connected: whether the bottlenecks are one path, or scattered.
        trained: names of modules that are trained whole.
        name: of this adapter, where a model carries several.
        seed: of D's draws.

    >>> model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    >>> attach_bottlenecks(model, ["0", "2"], width=2).num_parameters()
    40
    """
    if width < 1 or not name or "." in name:
        raise UsageError(f"width {width!r} is not from 1 up, or name {name!r} is empty or holds a dot")
    model = unwrap_model(model)
    found = _targets(model, targets)
    heads = resolve_modules(model, trained)
    path = Pathway(len(found)) if connected else None
    made = {}
    for place, (where, module) in enumerate(found.items()):
        if name in getattr(module, "bottlenecks", ()):
            raise UsageError(f"the model already has bottlenecks called {name!r}; choose another name")
        refuse_unread(model, where)
        base = module.base if isinstance(module, WithBottlenecks) else module
        made[where] = Bottleneck(_like(where, base), width, path, place, seeded_generator(seed, where, "bottleneck"))
    freeze = Freeze(model)
    model.requires_grad_(False)
    modules = {}
    for where, module in found.items():
        holder = module if isinstance(module, WithBottlenecks) else WithBottlenecks(module)
        holder.bottlenecks[name] = made[where].train(module.training)
        holder.active = (*holder.active, name)
        holder.freezes[name] = freeze
        modules[where] = holder
    replace_modules(model, [(module, modules[where]) for where, module in found.items()])
    for head in heads.values():
        head.requires_grad_(True)
    settings = {"width": width, "connected": connected, "seed": seed}
    return BottleneckAdapter(model, name, modules, heads, settings, freeze)


def refuse_unread(model: nn.Module, where: str) -> None:
    """Raise UsageError where the module's holder reads its weight instead of calling it, or calls it twice a pass."""
    places = find_paths(model)[where]
    if len(places) > 1:
        raise UsageError(f"{places[0]} and {places[1]} are one module; bottlenecks stand behind modules that run once")
    holder = model.get_submodule(where.rpartition(".")[0])
    if isinstance(holder, nn.MultiheadAttention | nn.TransformerEncoderLayer):
        raise UsageError(
            f"{where} lies in a {type(holder).__name__}, which reads the weights of its layers without calling them; "
            "put the bottleneck behind another module, or use an adapter of lowrank.attach"
        )


class BottleneckAdapter:
    """The bottlenecks that one ``attach_bottlenecks`` put on a model."""

    def __init__(
        self,
        model: nn.Module,
        name: str,
        modules: dict[str, WithBottlenecks],
        trained: dict[str, nn.Module],
        settings: Mapping[str, object],
        freeze: Freeze,
    ) -> None:
        self.freeze = freeze
        self.model, self.name, self.modules, self.trained, self.settings = model, name, modules, trained, settings

    def _parts(self) -> Iterator[tuple[str, nn.Module]]:
        yield from ((path, holder.bottlenecks[self.name]) for path, holder in self.modules.items())
        yield from self.trained.items()

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield what is trained."""
        for _, module in self._parts():
            yield from module.parameters()

    def num_parameters(self) -> int:
        """Return how many values are trained."""
        return sum(parameter.numel() for parameter in self.parameters())

    def state(self) -> dict[str, Tensor]:
        """Return every tensor under its path: live ones, detached."""
        return {f"{path}.{key}": value for path, module in self._parts() for key, value in module.state_dict().items()}

    @torch.no_grad()
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Copy in what ``state`` gave; every name and shape must fit."""
        own = self.state()
        bad = [
            key
            for key in own.keys() | state.keys()
            if key not in own or key not in state or own[key].shape != state[key].shape
        ]
        if bad:
            raise UsageError(
                f"the state does not fit these bottlenecks: {sorted(bad)[:3]} are missing or of another "
                "shape; attach with the same targets, width and connection"
            )
        for key, tensor in own.items():
            tensor.copy_(state[key])

    def activate(self, *names: str) -> None:
        """Stack the adapters called ``names`` in this order, this one alone where none is named."""
        chosen = names or (self.name,)
        holders = [module for module in self.model.modules() if isinstance(module, WithBottlenecks)]
        known = {name for holder in holders for name in holder.bottlenecks}
        if not set(chosen) <= known:
            raise UsageError(f"no bottlenecks called {sorted(set(chosen) - known)[0]!r}; there are {sorted(known)}")
        for holder in holders:
            holder.active = tuple(name for name in chosen if name in holder.bottlenecks)

    def detach(self) -> nn.Module:
        """Take the bottlenecks off the model and return it; parameters are trainable as they were before."""
        if any(self.name not in holder.bottlenecks for holder in self.modules.values()):
            raise UsageError(f"bottlenecks {self.name!r} are not on the model any more")
        for holder in self.modules.values():
            del holder.bottlenecks[self.name]
            holder.freezes.pop(self.name, None)
            holder.active = tuple(name for name in holder.active if name != self.name)
        bare = [holder for holder in self.modules.values() if not holder.bottlenecks]
        for holder in bare:
            move_hooks(holder, holder.base)
        replace_modules(self.model, [(holder, holder.base) for holder in bare])
        self.freeze.undo(freezes_of(self.model))
        return self.model

    def save(self, folder: str | Path) -> None:
        """Write bottlenecks.json and bottlenecks.safetensors, the modules trained whole included."""
        about = {**self.settings, "targets": list(self.modules), "trained": list(self.trained)}
        with replaced_folder(folder, keep_others=True) as stage:
            save_file(
                {key: value.cpu().contiguous() for key, value in self.state().items()},
                stage / "bottlenecks.safetensors",
            )
            (stage / "bottlenecks.json").write_text(json.dumps(about, indent=1) + "\n")
            add_manifest(stage, "bottlenecks.json")


def load_bottlenecks(model: nn.Module, folder: str | Path, *, name: str = "default") -> BottleneckAdapter:
    """Put bottlenecks that ``save`` wrote on ``model``."""
    file = Path(folder) / "bottlenecks.json"
    if not file.is_file():
        raise DataError(file, None, "no bottlenecks here", "give a folder that BottleneckAdapter.save wrote")

    def read(folder: Path) -> tuple[dict[str, object], dict[str, Tensor]]:
        about = json.loads(file.read_text())
        check_manifest(folder, about.pop("files", None), file)
        return about, load_file(folder / "bottlenecks.safetensors")

    about, state = read_unchanged(Path(folder), read)
    adapter = attach_bottlenecks(model, about.pop("targets"), name=name, **about)
    adapter.load_state(state)
    return adapter


def _targets(model: nn.Module, targets: str | Iterable[str]) -> dict[str, nn.Module]:
    modules = {path: module for path, module in model.named_modules() if ".base" not in path}
    if isinstance(targets, str):
        found = {path: module for path, module in modules.items() if path and re.fullmatch(targets, path)}
    else:
        named = resolve_modules(model, targets)
        found = {path: module for path, module in modules.items() if path in named}
    if not found:
        raise UsageError(f"no module of the model fits targets {targets!r}")
    return found


def _like(path: str, module: nn.Module) -> Tensor:
    """Return a vector with the width, dtype and device of the module's output."""
    weight = getattr(module, "weight", None)
    if isinstance(module, nn.Linear):
        return weight[:, 0].detach()
    if isinstance(weight, Tensor) and weight.dim() == 1:  # a norm
        return weight.detach()
    raise UsageError(f"{path} is a {type(module).__name__}; bottlenecks stand behind linear layers and norms")
