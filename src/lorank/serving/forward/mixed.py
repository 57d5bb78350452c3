"""A model whose layers serve several adapters in one forward: every linear layer and every head knows its runs.

``mixed_model`` copies a model's structure and shares all its tensors, so it costs no weights. Linear layers become
``MixedLinear``: base product for all lines, then each run's own update. Heads that some adapter trained whole
become ``MixedModule``: each run goes through its own head. DeBERTa-v2 projects its relative positions with the
adapted query and key layers, so that part of its attention is asked once an adapter.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lorank.errors import UsageError
from lorank.lowrank.base import BaseLinear
from lorank.lowrank.forms import Form
from lorank.lowrank.layer import Adapted
from lorank.lowrank.module_tree import replace_module
from lorank.lowrank.product import compute_dtype
from lorank.lowrank.targets import linear_layers
from lorank.serving.forward.page_pool import PagePool
from lorank.serving.forward.products import Stack, add_updates, multiply_folded, worth_folding
from lorank.serving.forward.segments import Current


class Member(Protocol):
    """What a layer asks of an adapter in the batch."""

    forms: dict[str, Form]
    """Updates that are no plain LoRA, by path; an adapter has either these or pages."""
    heads: dict[str, nn.Module]
    """Modules trained whole, by path."""
    table: Tensor
    """int64 [rank, columns of the layout]: the pages of each rank-one component."""
    ranks: np.ndarray
    """int64 [layers]: the rank of each layer of the layout."""


@dataclass(frozen=True)
class Layout:
    """Where the pages of each layer stand in an adapter's table: ``columns[path]`` is (begin, B's begin, end)."""

    pool: PagePool
    columns: dict[str, tuple[int, int, int]]
    place: dict[str, int]
    sizes: dict[str, tuple[int, int]]

    @classmethod
    def of(cls, layers: dict[str, BaseLinear], pool: PagePool) -> "Layout":
        """Lay out the pages of ``layers`` by path."""
        columns, at = {}, 0
        for path, base in layers.items():
            middle = at + pool.pages_of(base.in_features)
            end = middle + pool.pages_of(base.out_features)
            columns[path], at = (at, middle, end), end
        sizes = {path: (base.in_features, base.out_features) for path, base in layers.items()}
        return cls(pool, columns, {path: i for i, path in enumerate(layers)}, sizes)

    @property
    def width(self) -> int:
        """The columns of a table."""
        return max((end for *_, end in self.columns.values()), default=0)


class Tables:
    """The pages of the plain LoRAs of one batch: int64 [members, rank, columns], and each layer's largest rank."""

    def __init__(self, layout: Layout, members: Sequence[Member]) -> None:
        self.layout = layout
        self.ranks = np.max([np.zeros(len(layout.place), np.int64), *(member.ranks for member in members)], axis=0)
        deepest = int(self.ranks.max(initial=0))
        self.pages = torch.zeros(len(members), deepest, layout.width, dtype=torch.int64)
        for index, member in enumerate(members):
            self.pages[index, : len(member.table)] = member.table
        self.pages = self.pages.to(layout.pool.pages.device)

    def rank(self, paths: Sequence[str]) -> int:
        """Return the largest rank at ``paths``."""
        return max((int(self.ranks[self.layout.place[path]]) for path in paths), default=0)

    def stack(self, paths: Sequence[str], member: int | None, dtype: torch.dtype) -> Stack:
        """Collect the factors at ``paths``, which share their input, of all members or of one."""
        pages = self.pages[:, : self.rank(paths)]
        pages = pages if member is None else pages[member : member + 1]
        spans = [self.layout.columns[path] for path in paths]
        A = torch.cat([pages[:, :, begin:middle] for begin, middle, _ in spans], 1)
        Bt = torch.cat([pages[:, :, middle:end] for _, middle, end in spans], 1)
        width, out = self.layout.sizes[paths[0]]
        return Stack(self.collect(A, width).to(dtype), self.collect(Bt, out).to(dtype), len(paths))

    def collect(self, pages: Tensor, width: int) -> Tensor:
        """Return the numbers [members, rank lines, width] of ``pages`` [members, rank lines, pages a line]."""
        lines = self.layout.pool.pages.index_select(0, pages.reshape(-1))
        return lines.view(*pages.shape[:2], -1)[:, :, :width]


class Projection:
    """x -> the output of each of ``layers``, which read the same input: one product, then the updates."""

    def __init__(self, layers: Sequence["MixedLinear"], current: Current, dtype: torch.dtype | None = None) -> None:
        self.layers, self.current, self.dtype = list(layers), current, dtype
        self.paths = [layer.path for layer in layers]
        self._ready: dict[torch.dtype, tuple[Tensor, Tensor | None]] = {}

    def __call__(self, x: Tensor) -> Sequence[Tensor]:
        """Return one output [..., out] a layer for ``x`` [..., in]."""
        dtype = self.dtype or compute_dtype(x)
        lines = x.reshape(-1, x.shape[-1]).to(dtype)
        y = self.adapt(lines, dtype) if self.is_touched() else self.base(lines, dtype)
        return y.view(*x.shape[:-1], -1).chunk(len(self.layers), dim=-1)

    def is_touched(self) -> bool:
        """Return True where an adapter of the batch changes one of the layers."""
        tables, members = self.current.stacks, self.current.members
        if tables is not None and tables.rank(self.paths):
            return True
        return any(path in member.forms for member in members[self.current.plain :] for path in self.paths)

    def weights(self, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        """Return the weights [out of all layers, in] and biases as one, made once a format."""
        if dtype not in self._ready:
            weights = [layer.frozen.weight.detach() for layer in self.layers]
            biases = [bias.detach() for layer in self.layers if (bias := layer.frozen.bias) is not None]
            weight = (torch.cat(weights) if len(weights) > 1 else weights[0]).to(dtype)
            bias = torch.cat(biases).to(dtype) if biases else None
            self._ready[dtype] = weight, bias
        return self._ready[dtype]

    def base(self, lines: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the base's outputs side by side."""
        if all(layer.frozen.plain and layer.has_bias == self.layers[0].has_bias for layer in self.layers):
            return F.linear(lines, *self.weights(dtype))
        return torch.cat([layer.frozen(lines).to(dtype) for layer in self.layers], dim=-1)

    def adapt(self, lines: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the outputs with every run's own update."""
        current, tables = self.current, self.current.stacks
        runs = current.runs(len(lines))
        plain = current.plain if current.only is None else int(current.only < current.plain)
        stack = None
        if plain and tables.rank(self.paths):
            stack = tables.stack(self.paths, current.only, dtype)
        everyone = plain == len(runs.lengths)
        if stack is not None and everyone and self.layers[0].frozen.plain and worth_folding(runs, dtype):
            return multiply_folded(lines, *self.weights(dtype), stack, runs)
        y = self.base(lines, dtype)
        if stack is not None:
            add_updates(lines, y, stack, runs.first(plain))
        members = current.members if current.only is None else [current.members[current.only]]
        for index in range(plain, len(runs.lengths)):
            self.add_forms(members[index], lines, y, slice(runs.bounds[index], runs.bounds[index + 1]))
        return y

    def add_forms(self, member: Member, lines: Tensor, y: Tensor, run: slice) -> None:
        """Add the updates of one run that are no plain LoRA, in float32 at least.

        Args:
            member: The adapter of the run.
            lines: The input of all runs, [n, in].
            y: The outputs of the layers side by side, [n, out of all layers]; changed in place.
            run: The lines of the run.
        """
        begin = 0
        for layer in self.layers:
            columns = slice(begin, begin + layer.frozen.out_features)
            begin = columns.stop
            form = member.forms.get(layer.path)
            if form is not None:
                exact = torch.promote_types(y.dtype, layer.frozen.weight.dtype)
                with torch.autocast(y.device.type, enabled=False):
                    update = form.update(lines[run].to(exact), layer.frozen, y[run, columns].to(exact))
                y[run, columns] += update.to(y.dtype)


class MixedLinear(nn.Module):
    """A linear layer of the base under the updates of whoever is in the batch."""

    def __init__(self, module: nn.Module, path: str, current: Current) -> None:
        super().__init__()
        self.base, self.path = module, path
        self.frozen = BaseLinear(module)
        self.has_bias = self.frozen.bias is not None
        self.projection = Projection([self], current)

    def forward(self, x: Tensor) -> Tensor:
        """Return y [..., out] for ``x`` [..., in]."""
        return self.projection(x)[0]

    @property
    def weight(self) -> Tensor:
        """The base layer's own weight, for code that looks at its dtype or shape."""
        return self.frozen.weight

    @property
    def bias(self) -> Tensor | None:
        """The base layer's bias."""
        return self.frozen.bias


class MixedModule(nn.Module):
    """A module that adapters may bring whole: each run goes through its own, or through the base's."""

    def __init__(self, module: nn.Module, path: str, current: Current) -> None:
        super().__init__()
        self.base, self.path, self.current = module, path, current

    def forward(self, x: Tensor, *rest: Any) -> Any:
        """Return the outputs of all runs, one after another."""
        current = self.current
        if current.only is not None:
            return current.members[current.only].heads.get(self.path, self.base)(x, *rest)
        if not any(self.path in member.heads for member in current.members):
            return self.base(x, *rest)
        runs, outputs = current.runs(len(x)), []
        for index, (begin, end) in enumerate(zip(runs.bounds, runs.bounds[1:])):
            with current.alone(index):
                head = current.members[index].heads.get(self.path, self.base)
                outputs.append(head(x[begin:end], *rest))
        return torch.cat(outputs)


class MixedModel:
    """A structural copy of ``module`` that shares its tensors and serves the members of ``current``."""

    def __init__(self, module: nn.Module, current: Current) -> None:
        if any(isinstance(part, Adapted) for part in module.modules()):
            raise UsageError("the base model carries an adapter; detach it before serving adapters on the model")
        shared = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
        self.module = copy.deepcopy(module, shared).eval()
        self.current = current
        self._parts = dict(self.module.named_modules())
        self.linears = {path: MixedLinear(layer, path, current) for path, layer in linear_layers(self.module).items()}
        for path, layer in self.linears.items():
            replace_module(self.module, path, layer)
        for part in self._parts.values():
            if hasattr(part, "disentangled_attention_bias"):
                part.disentangled_attention_bias = once_per_member(part.disentangled_attention_bias, current)
        self._wrapped: set[str] = set()

    def wrap(self, path: str) -> None:
        """Let adapters bring their own module at ``path``."""
        if path not in self._wrapped:
            parent, _, leaf = path.rpartition(".")
            module: nn.Module = self.linears.get(path) or self._parts[path]
            setattr(self._parts[parent], leaf, MixedModule(module, path, self.current))
            self._wrapped.add(path)

    def project(self, modules: Sequence[nn.Module], dtype: torch.dtype) -> Callable[[Tensor], Sequence[Tensor]]:
        """Return the outputs of neighbouring layers, as one product where they are linear, for a packed encoder.

        Layers that a base was shrunk to, products of factors and weights on a grid, are computed one by one.
        """
        linears = [part for part in modules if isinstance(part, MixedLinear)]
        if len(linears) == len(modules):
            return Projection(linears, self.current, dtype)
        return lambda x: [compute(module, x, dtype) for module in modules]


def compute(module: nn.Module, x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a module's output for ``x`` [..., in] in ``dtype``."""
    with torch.autocast(x.device.type, dtype=dtype, enabled=dtype is not torch.float32):
        made: Tensor = module(x.to(dtype))
    return made.to(dtype)


def once_per_member(bias: Callable[..., Tensor], current: Current) -> Callable[..., Tensor]:
    """Return DeBERTa-v2's ``disentangled_attention_bias`` asked for each run alone."""

    def each(query: Tensor, key: Tensor, relative: Tensor, embeddings: Tensor, scale: float) -> Tensor:
        if current.only is not None or not current.members:
            return bias(query, key, relative, embeddings, scale)
        assert current.segments is not None
        runs = current.segments.rows
        heads = len(query) // runs.bounds[-1]
        parts = []
        for index, (begin, end) in enumerate(zip(runs.bounds, runs.bounds[1:])):
            rows = slice(begin * heads, end * heads)
            with current.alone(index):
                parts.append(bias(query[rows], key[rows], relative, embeddings, scale))
        return torch.cat(parts)

    return each
