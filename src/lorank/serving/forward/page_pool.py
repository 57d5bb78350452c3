r"""One pool of memory pages for everything that comes and goes: adapter weights of any rank, heads, K/V of prefixes.

A page is ``width`` float32 numbers. A rank-one component of a layer [out, in] takes ceil(in / width) pages for its
line of A and ceil(out / width) for its column of B, so adapters of unlike rank share the pool without holes: their
pages lie anywhere and are collected by number when a batch needs them. Page 0 is zero and stands for what an
adapter of smaller rank lacks. Heads, forms other than LoRA and K/V tensors need their numbers in one piece and
take runs of neighbouring pages, which are handed out as views.

The pool is allocated once, untouched memory costs nothing until it is written, and its size is never exceeded.

Sheng et al., S-LoRA: Serving Thousands of Concurrent LoRA Adapters, 2023, arXiv:2311.03285.

*Deviations*: the paper's page is one vector of the model's width; so is ours, with wider lines in several pages.
Its gather kernels multiply straight from pages on a GPU; here the pages of a batch are collected into one stack a
layer (a copy of the factors, under 1% of the layer's product) and multiplied by BLAS. Its tensor-parallel layout
is not here.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from lorank.errors import UsageError

BYTES = 4


class Full(Exception):
    """The pool has not that many free pages, or none so many side by side."""


class PagePool:
    """Pages of ``width`` float32 numbers within ``limit`` bytes, on the model's device.

    >>> pool = PagePool(limit=4 * 8 * 5, width=8)
    >>> pages = pool.take(2); pages.tolist(), pool.free
    ([1, 2], 2)
    >>> kept = pool.hold(torch.arange(3.0)); kept.tolist(), pool.free
    ([0.0, 1.0, 2.0], 1)
    """

    def __init__(self, limit: int, width: int, device: torch.device | str = "cpu") -> None:
        if width < 2 or width % 2:
            raise UsageError(f"a page of {width} numbers: give an even width from 2 up")
        count = limit // (width * BYTES)
        if count < 2:
            raise UsageError(f"a memory budget of {limit} bytes holds no page of {width * BYTES} bytes; raise it")
        self.width = width
        self.pages = torch.empty(count, width, device=device)
        self.pages[0] = 0
        self._free = np.ones(count, bool)
        self._free[0] = False
        self._held: dict[int, int] = {}

    @property
    def capacity(self) -> int:
        """How many pages can be taken."""
        return len(self._free) - 1

    @property
    def free(self) -> int:
        """How many pages are free."""
        return int(self._free.sum())

    @property
    def used_bytes(self) -> int:
        """The bytes of the pages in use, the zero page included."""
        return (len(self._free) - self.free) * self.width * BYTES

    def pages_of(self, numbers: int) -> int:
        """Return how many pages a line of ``numbers`` float32 numbers takes."""
        return -(-numbers // self.width)

    def pages_of_bytes(self, size: int) -> int:
        """Return how many pages ``size`` bytes take."""
        return -(-size // (self.width * BYTES))

    def take(self, count: int) -> np.ndarray:
        """Return the numbers int64 [count] of pages that were free, wherever they lie."""
        found = np.flatnonzero(self._free)[:count]
        if len(found) < count:
            raise Full
        self._free[found] = False
        return found

    def take_run(self, count: int) -> np.ndarray:
        """Return the numbers of ``count`` neighbouring pages that were free: the first that fit."""
        if not count:
            return np.zeros(0, np.int64)
        edges = np.flatnonzero(np.diff(np.concatenate([[0], self._free.view(np.int8), [0]])))
        begins, ends = edges[::2], edges[1::2]
        fitting = np.flatnonzero(ends - begins >= count)
        if not len(fitting):
            raise Full
        pages = np.arange(begins[fitting[0]], begins[fitting[0]] + count)
        self._free[pages] = False
        return pages

    def give(self, pages: np.ndarray) -> None:
        """Take pages back."""
        self._free[pages] = True

    def write(self, pages: np.ndarray, lines: Tensor) -> None:
        """Copy ``lines`` [pages, width] into pages."""
        self.pages[torch.from_numpy(pages).to(self.pages.device)] = lines.to(self.pages.device)

    def place(self, tensor: Tensor, pages: np.ndarray) -> Tensor:
        """Copy ``tensor``, of any dtype, into neighbouring pages and return the view that is its new home."""
        size = tensor.numel() * tensor.element_size()
        store = self.pages[int(pages[0]) : int(pages[0]) + len(pages)].view(-1).view(torch.uint8)
        home = store[:size].view(tensor.dtype).view(tensor.shape)
        home.copy_(tensor)
        return home

    def hold(self, tensor: Tensor) -> Tensor:
        """Copy ``tensor`` into a run of its own and return the view; ``release`` takes the run back."""
        size = tensor.numel() * tensor.element_size()
        if not size:
            return tensor.detach().clone()
        pages = self.take_run(self.pages_of_bytes(size))
        home = self.place(tensor.detach(), pages)
        self._held[home.data_ptr()] = len(pages)
        return home

    def release(self, tensors: Iterable[Tensor]) -> None:
        """Take back the runs of tensors that ``hold`` returned."""
        for tensor in tensors:
            if tensor.numel():
                first = (tensor.data_ptr() - self.pages.data_ptr()) // (self.width * BYTES)
                self.give(np.arange(first, first + self._held.pop(tensor.data_ptr())))


def page_width(widths: Sequence[int]) -> int:
    """Return a page width for layers of these widths: what divides the commonest and all wider, if not too small.

    Lines of narrower layers, such as a head's single output, take a page each.

    >>> page_width([384, 1536, 384, 1]), page_width([30, 30, 37])
    (384, 30)
    """
    common = Counter(widths).most_common(1)[0][0]
    divisor = math.gcd(*(width for width in widths if width >= common))
    width = divisor if divisor * 4 >= common else common
    return max(2, width + width % 2)
