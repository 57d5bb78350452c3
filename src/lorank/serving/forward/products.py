r"""y_i += (x_i A_i^T) B_i^T for the runs i of a batch, each with an adapter of its own: four ways.

Shapes: x [n, in] and y [n, out] with the lines of adapter i in run i; A [S, R, in] and B^T [S, R, out], ranks
padded to the largest with zero lines, the scale inside B. ``parts`` layers that read the same x (query, key and
value) have their A's stacked in R and add to neighbouring columns of y.

    even      runs of one length: views of x and y, batched products, nothing is copied
    slices    a pair of products a run, on slices: no copy either, a call a run
    padded    x gathered to the longest run, batched products, gathered back: no call a run, three copies
    folded    W + B_i A_i is formed and the run is multiplied by it in one product; with the base's own product

Which is fastest was measured (benchmarks/serving.py --products, one thread, 2,048 lines, rank 8, MiniLM's layers,
as a multiple of the base's product alone): folded 1.01 to 1.03 from 1,024 lines a run, 1.06 to 1.14 at 256; even
1.05 to 1.10 throughout; slices 1.05 to 1.07 at 256 lines, 1.09 to 1.17 at 32; padded 1.13 to 1.16 throughout. One
product of all lines with all A's, masked to each line's own, multiplies S R (in + out) / (in out) more than the
base does: 8% for two adapters of rank 8 on a layer of 384, more than the slices' 6%, so it is not among them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lorank.serving.forward.segments import Runs

FOLDED_FROM = 512
"""Lines a run from which forming W + BA costs less than the pair of products."""
PADDED_BELOW = 24
"""Mean lines a run under which the calls of ``slices`` cost more than the copies of ``padded``."""


@dataclass(frozen=True)
class Stack:
    """The factors of a batch's adapters for one product: A [S, R, in], B^T [S, R, out of one part], ``parts``.

    Rank lines j R / parts to (j + 1) R / parts belong to part j.
    """

    A: Tensor
    Bt: Tensor
    parts: int

    @property
    def rank(self) -> int:
        """The rank of one part."""
        return self.A.shape[1] // self.parts

    def lines(self, part: int) -> slice:
        """Return the rank lines of a part."""
        return slice(part * self.rank, (part + 1) * self.rank)

    def columns(self, part: int) -> slice:
        """Return the columns of y of a part."""
        return slice(part * self.Bt.shape[2], (part + 1) * self.Bt.shape[2])


Product = Callable[[Tensor, Tensor, Stack, Runs], None]


def add_even(x: Tensor, y: Tensor, stack: Stack, runs: Runs) -> None:
    """Add the updates where all runs have one length.

    Args:
        x: The input, [n, in].
        y: The output, [n, parts * out], to which the updates are added in place.
        stack: The factors of the adapters.
        runs: The lines of each adapter, of one length.
    """
    count, length = len(runs.lengths), runs.lengths[0]
    shape = (count, length, -1)
    lines = x[: count * length].view(shape)
    inner = torch.bmm(stack.A, lines.transpose(1, 2))
    for part in range(stack.parts):
        own = y[: count * length, stack.columns(part)].view(shape)
        own.baddbmm_(inner[:, stack.lines(part)].transpose(1, 2), stack.Bt[:, stack.lines(part)])


def add_slices(x: Tensor, y: Tensor, stack: Stack, runs: Runs) -> None:
    """Add the updates run by run.

    Args:
        x: The input, [n, in].
        y: The output, [n, parts * out], to which the updates are added in place.
        stack: The factors of the adapters.
        runs: The lines of each adapter.
    """
    for index, (begin, end) in enumerate(zip(runs.bounds, runs.bounds[1:])):
        inner = torch.mm(stack.A[index], x[begin:end].t())
        for part in range(stack.parts):
            lines = stack.lines(part)
            y[begin:end, stack.columns(part)].addmm_(inner[lines].t(), stack.Bt[index, lines])


def add_padded(x: Tensor, y: Tensor, stack: Stack, runs: Runs) -> None:
    """Add the updates through copies in which every run is as long as the longest.

    Args:
        x: The input, [n, in].
        y: The output, [n, parts * out], to which the updates are added in place.
        stack: The factors of the adapters.
        runs: The lines of each adapter.
    """
    lengths = torch.tensor(runs.lengths, device=x.device)
    longest, begins = int(lengths.max()), torch.tensor(runs.bounds[:-1], device=x.device)
    steps = torch.arange(longest, device=x.device)
    inside = steps < lengths[:, None]
    places = torch.where(inside, begins[:, None] + steps, 0).reshape(-1)
    real = inside.reshape(-1).nonzero().squeeze(1)
    lines = x.index_select(0, places).view(len(lengths), longest, -1)
    inner = torch.bmm(lines, stack.A.transpose(1, 2))
    for part in range(stack.parts):
        update = torch.bmm(inner[:, :, stack.lines(part)], stack.Bt[:, stack.lines(part)])
        y[: len(real), stack.columns(part)].add_(update.flatten(0, 1).index_select(0, real))


PRODUCTS: dict[str, Product] = {"even": add_even, "slices": add_slices, "padded": add_padded}


def add_updates(x: Tensor, y: Tensor, stack: Stack, runs: Runs) -> None:
    """Add x_i A_i^T B_i^T to y in place, the way that suits the runs.

    Args:
        x: The input, [n, in].
        y: The output, [n, parts * out], to which the updates are added in place.
        stack: The factors of the adapters.
        runs: The lines of each adapter; lines after the last run stay as they are.
    """
    if not stack.A.shape[1] or not len(x):
        return
    if runs.even:
        add_even(x, y, stack, runs)
    elif runs.bounds[-1] >= PADDED_BELOW * len(runs.lengths):
        add_slices(x, y, stack, runs)
    else:
        add_padded(x, y, stack, runs)


def worth_folding(runs: Runs, dtype: torch.dtype) -> bool:
    """Return True where every run is long enough for W + B A; never in half precision, which would round it away."""
    return dtype in (torch.float32, torch.float64) and min(runs.lengths) >= FOLDED_FROM


def multiply_folded(x: Tensor, weight: Tensor, bias: Tensor | None, stack: Stack, runs: Runs) -> Tensor:
    """Return x (W + B_i A_i)^T + b [n, parts * out] of every run.

    Args:
        x: The input, [n, in].
        weight: W of the parts, one below the other, [parts * out, in].
        bias: b, [parts * out]; None for none.
        stack: The factors of the adapters.
        runs: The lines of each adapter.
    """
    y = x.new_empty(len(x), len(weight))
    changed = torch.empty_like(weight)
    for index, (begin, end) in enumerate(zip(runs.bounds, runs.bounds[1:])):
        for part in range(stack.parts):
            columns, lines = stack.columns(part), stack.lines(part)
            torch.addmm(weight[columns], stack.Bt[index, lines].t(), stack.A[index, lines], out=changed[columns])
        if bias is None:
            torch.mm(x[begin:end], changed.t(), out=y[begin:end])
        else:
            torch.addmm(bias, x[begin:end], changed.t(), out=y[begin:end])
    return y
