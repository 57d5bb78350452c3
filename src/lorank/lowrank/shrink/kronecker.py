r"""Kronecker products: the sum of K products A_k (x) B_k nearest to a matrix.

    M [m1 m2, n1 n2] ~ sum_k A_k [m1, n1] (x) B_k [m2, n2]

Rearranged so that each block of M is a row, R(M) [m1 n1, m2 n2], a Kronecker product is a matrix of rank 1: the best
sum is the truncated SVD of R(M).

C. Van Loan and N. Pitsianis, Approximation with Kronecker products, 1993.
"""

import torch
from torch import Tensor

from lorank.errors import UsageError
from lorank.lowrank.linalg import top_k_svd


def nearest_kronecker(matrix: Tensor, shape: tuple[int, int], terms: int = 1) -> list[tuple[Tensor, Tensor]]:
    """Return the pairs (A_k, B_k) of the nearest sum of Kronecker products.

    Args:
        matrix: M [m, n].
        shape: The shape [m1, n1] of A; m1 divides m and n1 divides n.
        terms: The number of products, 1 or more.

    Raises:
        UsageError: For a shape that does not divide the matrix's.

    >>> [(A, B)] = nearest_kronecker(torch.kron(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0], [1.0]])), (1, 2))
    >>> torch.kron(A, B).round(decimals=4).tolist()
    [[3.0, 6.0], [1.0, 2.0]]
    """
    (rows, columns), (m1, n1) = matrix.shape, shape
    if m1 < 1 or n1 < 1 or rows % m1 or columns % n1:
        raise UsageError(f"a first factor {list(shape)} does not divide a matrix {[rows, columns]}; give divisors")
    m2, n2 = rows // m1, columns // n1
    rearranged = matrix.reshape(m1, m2, n1, n2).permute(0, 2, 1, 3).reshape(m1 * n1, m2 * n2)
    U, s, Vh = top_k_svd(rearranged, terms)
    roots = s.sqrt()
    return [
        ((root * left).reshape(m1, n1), (root * right).reshape(m2, n2))
        for root, left, right in zip(roots, U.t(), Vh, strict=True)
    ]


def sum_of_kronecker(pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Return the sum of the Kronecker products of ``pairs``."""
    return torch.stack([torch.kron(first, second) for first, second in pairs]).sum(0)
