r"""EigenLoRAx: the directions that a library of adapters shares, on which a new task learns coefficients only.

    [A_1; ...; A_N] = . diag(sigma) V^T        V_A = V_K^T  [K, in]     principal directions of all rows of A_i
    [B_1, ..., B_N] = U diag(sigma) .          U_B = U_K    [out, K]    ... of all columns of s_i B_i

A library with fewer than K directions is filled up with random orthonormal ones. The form ``eigenlorax`` holds
both bases frozen; an old adapter whose factors lie in the span has exact coefficients (``project``).

Kaushik et al., EigenLoRAx: Recycling Adapters to Find Principal Subspaces for Resource-Efficient Adaptation and
Inference, 2025, arXiv:2502.04700.

*Deviations*: the published code centres the columns and decomposes a square covariance; here the thin stack
itself is decomposed, uncentred, so that an old adapter lies in the span. Scales are folded into the B_i.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lorank.errors import UsageError
from lorank.lowrank.adapter import Adapter
from lorank.lowrank.algebra.factors import fold_scale
from lorank.lowrank.algebra.sets import FactorSet
from lorank.lowrank.forms.eigen import EigenLoRA
from lorank.lowrank.forms.form import seeded_generator
from lorank.lowrank.linalg import top_k_svd, working_dtype


def principal_rows(stack: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return ``count`` orthonormal rows [count, n]: the principal ones of ``stack`` [m, n], then random ones.

    >>> rows = principal_rows(torch.tensor([[0.0, 3.0, 0.0]]), 2, torch.Generator().manual_seed(0))
    >>> rows[0].abs().tolist(), torch.allclose(rows @ rows.T, torch.eye(2), atol=1e-6)
    ([0.0, 1.0, 0.0], True)
    """
    count = min(count, stack.shape[1])
    _, sigma, Vh = top_k_svd(stack.double(), count)
    known = Vh[: int((sigma > 1e-9 * sigma.max().clamp_min(1e-300)).sum())] if len(sigma) else Vh
    if len(known) < count:
        draw = torch.randn(stack.shape[1], count - len(known), generator=generator, dtype=torch.float64)
        draw = draw.to(stack.device)
        for _ in range(2):  # twice is enough for orthogonality to rounding
            draw = draw - known.t() @ (known @ draw)
        known = torch.cat([known, torch.linalg.qr(draw).Q.t()])
    return known.to(working_dtype(stack))


def eigen_bases(library: Sequence[FactorSet], path: str, components: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return V_A [K, in] and U_B [out, K] of one layer; see the module's text.

    Args:
        library: The adapters, by layer; those without the layer are left out.
        path: The layer's path.
        components: K, the number of directions, 1 or more; a side has at most as many as its length.
        seed: The seed of the random directions that fill up a small library.

    Raises:
        UsageError: If no adapter of the library has the layer.
    """
    pairs = [fold_scale(own[path]) for own in library if path in own]
    if not pairs:
        raise UsageError(f"no adapter of the library has layer {path}")
    rows = principal_rows(torch.cat([pair.A for pair in pairs]), components, seeded_generator(seed, "eigen A", path))
    columns = principal_rows(
        torch.cat([pair.B.t() for pair in pairs]), components, seeded_generator(seed, "eigen B", path)
    )
    return rows, columns.t()


def recycle(adapter: Adapter, library: Sequence[FactorSet], seed: int = 0) -> None:
    """Give ``adapter``, attached as ``eigenlorax``, the principal directions of ``library``.

    Its update stays 0 until it is trained or ``project`` writes an old adapter's coefficients.
    """
    for path, form in _eigen_forms(adapter).items():
        V, U = eigen_bases(library, path, form.components, seed)
        form.set_bases(V, U)


def project(adapter: Adapter, factors: FactorSet) -> None:
    """Write into ``adapter`` the coefficients of ``factors``: exact where they lie in the span.

    A's coefficients are A V_A^T, B's are U_B^T B / s; components beyond the adapter's rank are an error.
    """
    for path, form in _eigen_forms(adapter).items():
        form.set_factors(fold_scale(factors[path]))


def _eigen_forms(adapter: Adapter) -> Mapping[str, EigenLoRA]:
    forms = adapter.forms
    if not all(isinstance(form, EigenLoRA) for form in forms.values()):
        raise UsageError(f"the adapter's form is {adapter.settings.form!r}; attach it as 'eigenlorax'")
    return forms  # type: ignore[return-value]
