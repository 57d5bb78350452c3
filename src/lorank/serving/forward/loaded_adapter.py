"""An adapter in memory: its rank-one components in pages of the pool, what is no plain LoRA in runs of pages."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lorank.lowrank.adapter_files import Contents
from lorank.lowrank.folder import open_forms
from lorank.lowrank.forms import Factors, Form
from lorank.lowrank.scaling import scaling_rule
from lorank.serving.adapters.package import Package
from lorank.serving.forward.mixed import Layout
from lorank.serving.forward.page_pool import Full, PagePool


@dataclass
class LoadedAdapter:
    """One adapter as the layers read it; ``version`` is that of the files it was read from."""

    name: str
    version: str
    package: Package | None
    table: Tensor
    ranks: np.ndarray
    pages: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    forms: dict[str, Form] = field(default_factory=dict)
    heads: dict[str, nn.Module] = field(default_factory=dict)
    held: list[Tensor] = field(default_factory=list)
    taken: int = 0

    def close(self, pool: PagePool) -> None:
        """Give back all pages."""
        pool.give(self.pages)
        pool.release(self.held)
        self.pages, self.held = self.pages[:0], []


def base_member(layout: Layout) -> LoadedAdapter:
    """Return the member of a batch that changes nothing: the base itself."""
    return LoadedAdapter(
        "", "", None, torch.zeros(0, layout.width, dtype=torch.int64), np.zeros(len(layout.place), np.int64)
    )


@dataclass
class Prepared:
    """An adapter that was read and built, and takes no page yet; ``pages`` is how many it will take."""

    name: str
    version: str
    package: Package
    factors: Mapping[str, Factors]
    forms: dict[str, Form]
    heads: dict[str, nn.Module]
    pages: int


def prepare_package(name: str, version: str, package: Package, module: nn.Module, layout: Layout) -> Prepared:
    """Build what an adapter consists of; touches nothing that a forward reads, so that any thread may do it.

    Args:
        name: The name of the adapter.
        version: The version of its files.
        package: What was read from them.
        module: The base model, of which nothing is changed.
        layout: The pages of the base's layers; none is taken.
    """
    forms: dict[str, Form] = {}
    factors = plain_factors(package.contents)
    if factors is None:
        forms = open_forms(package.contents, module, package.folder)
        factors = as_plain(forms)
        forms = {} if factors is not None else forms
    heads = {path: own_head(module, path, tensors) for path, tensors in package.contents.trained.items()}
    pool, pages = layout.pool, layout.pool.pages_of_bytes(package.beside)
    for A, B, _ in (factors or {}).values():
        pages += len(A) * (pool.pages_of(A.shape[1]) + pool.pages_of(B.shape[0]))
    parts = {id(t): t for part in (*forms.values(), *heads.values()) for t in (*part.parameters(), *part.buffers())}
    pages += sum(pool.pages_of_bytes(t.numel() * t.element_size()) for t in parts.values())
    light = replace(package.contents, updates={}, trained={})  # the pool's copies are the only ones kept
    return Prepared(name, version, replace(package, contents=light), factors or {}, forms, heads, pages)


def place(prepared: Prepared, layout: Layout) -> LoadedAdapter:
    """Put an adapter into the pool; ``Full`` leaves nothing taken, and the prepared one as it was."""
    opened = base_member(layout)
    opened.name, opened.version, opened.package = prepared.name, prepared.version, prepared.package
    parts = (*prepared.forms.values(), *prepared.heads.values())
    before = [(tensor, tensor.data) for part in parts for tensor in (*part.parameters(), *part.buffers())]
    try:
        if prepared.factors:
            take_factors(opened, prepared.factors, layout)
        opened.heads = prepared.heads
        for part in parts:
            move_into(part, layout.pool, opened.held)
        opened.forms = {path: form for path, form in prepared.forms.items() if form.rank}
        beside = prepared.package.beside
        if beside:
            opened.pages = np.concatenate([opened.pages, layout.pool.take(layout.pool.pages_of_bytes(beside))])
    except Full:
        for tensor, data in before:
            tensor.data = data
        opened.close(layout.pool)
        raise
    opened.taken = prepared.pages
    return opened


def open_package(name: str, version: str, package: Package, module: nn.Module, layout: Layout) -> LoadedAdapter:
    """Put an adapter into the pool; ``Full`` leaves nothing taken.

    Args:
        name: The name of the adapter.
        version: The version of its files.
        package: What was read from them.
        module: The base model, of which nothing is changed.
        layout: The pages of the base's layers, and the pool that they are taken from.
    """
    return place(prepare_package(name, version, package, module, layout), layout)


def plain_factors(contents: Contents) -> dict[str, Factors] | None:
    """Return the factors of a LoRA folder as they lie in the file, without building its forms; None for others."""
    if contents.settings.form != "lora":
        return None
    rule = scaling_rule(contents.settings.scaling)
    factors = {}
    for path, layer in contents.plan.items():
        if layer.rank:
            own = contents.updates[path]
            factors[path] = Factors(own["lora_A.weight"], own["lora_B.weight"], rule(layer.alpha, layer.rank))
    return factors


def as_plain(forms: Mapping[str, Form]) -> dict[str, Factors] | None:
    """Return the factors of forms that are all exactly a LoRA, of at most half their layer's rank; None where not."""
    factors = {}
    for path, form in forms.items():
        found = form.as_lora() if form.rank else None
        if form.rank:
            if found is None or 2 * len(found.A) > min(form.in_features, form.out_features):
                return None
            factors[path] = found
    return factors


def take_factors(opened: LoadedAdapter, factors: Mapping[str, Factors], layout: Layout) -> None:
    """Copy factors into pages, the scale into B, and note the pages in the adapter's table."""
    pool, lines = layout.pool, []
    for A, B, scaling in factors.values():
        lines += [split_into_pages(A.float(), pool.width), split_into_pages(scaling * B.float().t(), pool.width)]
    block = torch.cat(lines) if lines else torch.zeros(0, pool.width)
    opened.pages = pool.take(len(block))
    pool.write(opened.pages, block)
    opened.table = torch.zeros(
        max((len(A) for A, _, _ in factors.values()), default=0), layout.width, dtype=torch.int64
    )
    numbers, at = torch.from_numpy(opened.pages), 0
    for path, (A, _, _) in factors.items():
        begin, middle, end = layout.columns[path]
        rank = len(A)
        opened.ranks[layout.place[path]] = rank
        for first, last in ((begin, middle), (middle, end)):
            count = rank * (last - first)
            opened.table[:rank, first:last] = numbers[at : at + count].view(rank, last - first)
            at += count


def split_into_pages(lines: Tensor, width: int) -> Tensor:
    """Return ``lines`` [n, in] as pages [n * pages a line, width], the last of each line filled up with zeros."""
    return F.pad(lines, (0, -lines.shape[1] % width)).reshape(-1, width)


def own_head(module: nn.Module, path: str, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Return a copy of the base's module at ``path`` that holds ``tensors``."""
    base = module.get_submodule(path)
    instead: dict[int, object] = {}
    for key, tensor in base.state_dict(keep_vars=True).items():
        value = tensors[key].to(tensor.dtype)
        instead[id(tensor)] = nn.Parameter(value, requires_grad=False) if isinstance(tensor, nn.Parameter) else value
    return copy.deepcopy(base, instead).eval()


def move_into(part: nn.Module, pool: PagePool, held: list[Tensor]) -> None:
    """Move every tensor of ``part``, saved or not, into the pool; one that several parts share moves once."""
    homes = {tensor.data_ptr() for tensor in held}
    for tensor in (*part.parameters(), *part.buffers()):
        if tensor.numel() and tensor.data_ptr() not in homes:
            tensor.data = pool.hold(tensor)
            held.append(tensor.data)
            homes.add(tensor.data_ptr())
