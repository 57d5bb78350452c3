"""Block designs: which documents are put together in which block.

A design of n documents in blocks of at most k returns blocks of positions 0..n-1. Those of ``equi-replicate`` and
``latin-square`` put every document in r blocks, ``triangular`` in two, ``all-pairs`` in n - 1.
"""

from collections.abc import Callable

import numpy as np

from lorank.errors import UsageError

Blocks = list[list[int]]


def equi_replicate(count: int, size: int, replicates: int, generator: np.random.Generator) -> Blocks:
    """Return ceil(r n / k) blocks cut from r random permutations laid end to end; no block repeats a document.

    Where a block spans two permutations, the documents it already holds are moved back in the second one.

    Args:
        count: The number of documents n.
        size: The number of documents k in a block, 1 or more.
        replicates: The number of blocks r in which each document stands, 1 or more.
        generator: The source of every random draw.

    >>> blocks = equi_replicate(10, 4, 2, np.random.default_rng(0))
    >>> np.bincount(np.concatenate(blocks)).tolist()
    [2, 2, 2, 2, 2, 2, 2, 2, 2, 2]
    """
    if size >= count:
        return [list(range(count)) for _ in range(replicates)]
    blocks: Blocks = [[]]
    for _ in range(replicates):
        drawn = generator.permutation(count).tolist()
        held = set(blocks[-1]) if len(blocks[-1]) < size else set()
        room = size - len(blocks[-1]) if held else 0
        fill = [d for d in drawn if d not in held][:room]
        used = set(fill)
        blocks[-1] += fill
        rest = [d for d in drawn if d not in used]
        blocks += [rest[start : start + size] for start in range(0, len(rest), size)]
    return [block for block in blocks if block]


def latin_square(count: int, size: int, replicates: int, generator: np.random.Generator) -> Blocks:
    """Return the rows, columns and letters of latin squares over a k x k grid, of which n <= k^2 cells are filled.

    Two documents meet at most once where the squares are orthogonal: r <= 3, or r <= k + 1 for k prime.

    Args:
        count: The number of documents n, at most k^2.
        size: The number of documents k in a block.
        replicates: The number of blocks r in which each document stands, 1 or more.
        generator: The source of every random draw.

    Raises:
        UsageError: If the documents do not fit in the grid, or there is no such number of orthogonal squares.
    """
    if count > size * size:
        raise UsageError(
            f"a latin-square design holds size^2 = {size * size} documents, not {count}; take a size of "
            f"{int(np.ceil(np.sqrt(count)))} or more, or the equi-replicate design"
        )
    prime = size > 1 and all(size % divisor for divisor in range(2, int(size**0.5) + 1))
    if not 1 <= replicates <= (size + 1 if prime else 3):
        raise UsageError(
            f"a latin-square design of size {size} has 1 to {size + 1 if prime else 3} replicates, not {replicates}"
        )
    row, column = np.divmod(np.arange(size * size), size)
    cell = np.full(size * size, -1)
    cell[generator.permutation(size * size)[:count] if count < size * size else np.arange(count)] = (
        generator.permutation(count)
    )
    lines = [row, column, *((t * row + column) % size for t in range(1, size))][:replicates]
    blocks = [cell[line == value].tolist() for line in lines for value in range(size)]
    return [filled for block in blocks if len(filled := [d for d in block if d >= 0])]


def triangular(count: int, size: int, replicates: int, generator: np.random.Generator) -> Blocks:
    """Return m blocks of which any two share one document: document {i, j} stands in blocks i and j.

    m is the smallest with m(m - 1)/2 >= n, and blocks hold m - 1 <= k documents.

    Args:
        count: The number of documents n.
        size: The most documents k in a block.
        replicates: It is not used; each document stands in two blocks.
        generator: The source of every random draw.

    Raises:
        UsageError: If blocks of ``size`` documents are too small.
    """
    number = int(np.ceil((1 + np.sqrt(1 + 8 * count)) / 2))
    if number - 1 > size:
        raise UsageError(
            f"a triangular design of {count} documents needs blocks of {number - 1}, not {size}; take a "
            "size of that or more, or the equi-replicate design"
        )
    blocks: Blocks = [[] for _ in range(number)]
    pairs = zip(*np.triu_indices(number, 1))
    for d, (i, j) in zip(generator.permutation(count).tolist(), pairs):
        blocks[i].append(d)
        blocks[j].append(d)
    return [block for block in blocks if block]


def random_blocks(count: int, size: int, replicates: int, generator: np.random.Generator) -> Blocks:
    """Return ceil(r n / k) blocks, each drawn on its own; a document may be in none.

    Args:
        count: The number of documents n.
        size: The number of documents k in a block, 1 or more.
        replicates: The mean number of blocks r in which a document stands.
        generator: The source of every random draw.
    """
    size = min(size, count)
    return [generator.choice(count, size, replace=False).tolist() for _ in range(-(-replicates * count // size))]


def all_pairs(count: int, size: int, replicates: int, generator: np.random.Generator) -> Blocks:
    """Return every pair as a block of two.

    Args:
        count: The number of documents.
        size: It is not used; a block holds two documents.
        replicates: It is not used; each pair meets once.
        generator: It is not used.
    """
    return [[a, b] for a in range(count) for b in range(a + 1, count)] or [[0]]


DESIGNS: dict[str, Callable[[int, int, int, np.random.Generator], Blocks]] = {
    "equi-replicate": equi_replicate,
    "latin-square": latin_square,
    "triangular": triangular,
    "random": random_blocks,
    "all-pairs": all_pairs,
}
"""The designs by name."""
