r"""Matrix completion by robust alternating minimisation: a matrix of low rank from some of its entries.

    minimise sum over seen (i, j) of (M_ij - u_i v_j)^2,    U [m, r] and V [n, r] in turn, row by row

Each half step is solved approximately: conjugate gradients begin at the last solution and stop once its residual has
fallen to a share ``tolerance``. The outer loop stands that error, as each half step contracts the distance to the
truth. U starts at the leading left directions of M with zeros in the places that are not seen, by subspace iterations.
A step of either costs O(seen r); no [m, n] matrix is formed. It fills sparse tables of query-document scores.

Gu et al., Low Rank Matrix Completion via Robust Alternating Minimization in Nearly Linear Time, 2023, arXiv:2302.11068.

No command completes a table. A log of choices (`lorank recommend`) holds no numbers that differ: every seen entry is
1, and the matrix of ones fits it exactly. Judgments and runs are far too sparse: r (m + n - r) entries are needed, and
most documents are judged or scored for one query. It is for tables whose rows share columns, such as ratings.

*Deviations*: [~] sketched solvers of high accuracy are replaced by conjugate gradients on the normal equations, which
have the same interface (an error per solve that is stated); one set of entries serves all rounds.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.lowrank.linalg import top_k_svd

OVERSAMPLING = 5
"""How many directions more than the rank the search for a start carries."""
POWER_STEPS = 4
"""How often it goes from the columns to the rows and back."""


@dataclass(frozen=True)
class Completed:
    """U [m, r] and V [n, r], the root mean square error on seen entries, and the rounds that were done."""

    left: Tensor
    right: Tensor
    error: float
    rounds: int

    @property
    def matrix(self) -> Tensor:
        """U V^T [m, n]."""
        return self.left @ self.right.t()


@catalogued(
    "robust-altmin-completion",
    area="compress",
    title="Low Rank Matrix Completion via Robust Alternating Minimization in Nearly Linear Time",
    reach="Python alone: it completes a table of numbers whose rows share columns; choices of users are all 1, and "
    "judgments and runs are too sparse",
)
@torch.no_grad()
def complete(
    rows: Tensor,
    columns: Tensor,
    values: Tensor,
    shape: tuple[int, int],
    rank: int,
    *,
    rounds: int = 200,
    tolerance: float = 0.05,
    ridge: float = 1e-10,
    seed: int = 0,
) -> Completed:
    """Return the matrix of low rank that fits the seen entries.

    Args:
        rows: The int64 [seen] row of each entry.
        columns: The int64 [seen] column of each entry.
        values: The float [seen] entries.
        shape: [m, n].
        rank: r, from 1 to min(m, n).
        rounds: The most rounds, 1 or more.
        tolerance: The share of its residual at which each inner solve stops, in (0, 1).
        ridge: The damping of the least squares, relative to their scale; it is what a row without entries rests on.
        seed: The seed of the directions with which the search for a start begins.

    Raises:
        UsageError: For a rank, tolerance or place out of its range, and fewer entries than r (m + n - r) unknowns.

    >>> i, j = torch.meshgrid(torch.arange(4), torch.arange(3), indexing="ij")
    >>> found = complete(i.flatten(), j.flatten(), torch.ones(12), (4, 3), 1); round(found.matrix.mean().item(), 4)
    1.0
    """
    m, n = shape
    if not 1 <= rank <= min(m, n):
        raise UsageError(f"rank {rank} of a matrix {[m, n]}: write an integer from 1 to {min(m, n)}")
    if not 0 < tolerance < 1:
        raise UsageError(f"tolerance {tolerance}: write a number between 0 and 1")
    inside = (rows >= 0) & (rows < m) & (columns >= 0) & (columns < n)
    if not len(values) or not bool(inside.all()):
        raise UsageError(f"the entries lie outside of a matrix {[m, n]}, or there are none")
    if len(values) < rank * (m + n - rank):
        raise UsageError(
            f"{len(values)} entries do not determine a matrix {[m, n]} of rank {rank}, which has "
            f"{rank * (m + n - rank)} unknowns; give more entries or a lower rank"
        )
    values = values.double()
    left = leading_directions(rows, columns, values, shape, rank, torch.Generator().manual_seed(seed))
    right = torch.zeros(n, rank, dtype=torch.float64)
    scale, error, done = float(values.norm()) or 1.0, float("inf"), 0
    while done < rounds:
        done += 1
        right, turned = torch.linalg.qr(solve_side(columns, rows, values, left, right, tolerance, ridge))
        left = solve_side(rows, columns, values, right, left @ turned.t(), tolerance, ridge)
        error = float((values - (left[rows] * right[columns]).sum(1)).norm())
        if error <= 1e-10 * scale:
            break
        left, turned = torch.linalg.qr(left)
        right = right @ turned.t()
    return Completed(left, right, error / len(values) ** 0.5, done)


def leading_directions(
    rows: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int], rank: int, generator: torch.Generator
) -> Tensor:
    """Return the leading left singular directions [m, r] of the matrix that is 0 where nothing is seen.

    Args:
        rows: The int64 [seen] row of each entry.
        columns: The int64 [seen] column of each entry.
        values: The entries [seen].
        shape: [m, n].
        rank: r.
        generator: It draws the first directions.
    """
    m, n = shape
    width = min(rank + OVERSAMPLING, m, n)
    right = torch.randn(n, width, generator=generator, dtype=values.dtype).to(values.device)
    for _ in range(POWER_STEPS):
        left = torch.linalg.qr(multiply(rows, columns, values, right, m)).Q
        right = torch.linalg.qr(multiply(columns, rows, values, left, n)).Q
    left, small = torch.linalg.qr(multiply(rows, columns, values, right, m))
    directions: Tensor = left @ top_k_svd(small, rank).U
    return directions


def multiply(rows: Tensor, columns: Tensor, values: Tensor, matrix: Tensor, height: int) -> Tensor:
    """Return S X [height, k] for the sparse S with ``values`` at (rows, columns) and X [., k].

    >>> multiply(torch.tensor([1, 1]), torch.tensor([0, 2]), torch.tensor([2.0, 3.0]), torch.eye(3), 2).tolist()
    [[0.0, 0.0, 0.0], [2.0, 0.0, 3.0]]
    """
    made = matrix.new_zeros(height, matrix.shape[1])
    return made.index_add_(0, rows, values[:, None] * matrix[columns])


def solve_side(
    own: Tensor, other: Tensor, values: Tensor, fixed: Tensor, start: Tensor, tolerance: float, ridge: float
) -> Tensor:
    """Return X [rows, r] with sum (values - X[own] . fixed[other])^2 small, all rows at once by conjugate gradients.

    Args:
        own: The int64 [seen] row of X of each entry.
        other: The int64 [seen] row of ``fixed`` of each entry.
        values: The entries [seen].
        fixed: The side that stays [., r].
        start: X to begin with [rows, r].
        tolerance: The share of the first residual at which the solve stops.
        ridge: The damping, relative to the mean diagonal.
    """
    features = fixed[other]
    damping = ridge * float(features.square().sum() / max(start.numel(), 1))

    def apply(x: Tensor) -> Tensor:
        return torch.zeros_like(x).index_add_(0, own, features * (x[own] * features).sum(1, keepdim=True)) + damping * x

    target = torch.zeros_like(start).index_add_(0, own, features * values[:, None])
    x = start.clone()
    residual = target - apply(x)
    direction = residual.clone()
    energy = residual.square().sum(1, keepdim=True)
    goal = tolerance**2 * float(energy.sum())
    for _ in range(4 * start.shape[1]):
        if float(energy.sum()) <= goal:
            break
        image = apply(direction)
        step = energy / (direction * image).sum(1, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)
        x, residual = x + step * direction, residual - step * image
        new = residual.square().sum(1, keepdim=True)
        direction = residual + new / energy.clamp_min(torch.finfo(x.dtype).tiny) * direction
        energy = new
    return x
