r"""FlashBias: an additive bias of attention as extra columns of queries and keys.

    softmax(s q k^T + b) v,   b = phi_q phi_k^T of rank R    =    softmax([s q, phi_q] [k, phi_k]^T) v

No [n, n] bias is built: memory is O(n (d + R)), as fused kernels of attention read the columns block by block. They ask
for queries, keys and values of one width, so that the narrower ones get columns of zeros. ALiBi, b_ij = -m (i - j), has
R = 2 exactly: phi_q(i) = [-m i, m] and phi_k(j) = [1, j]. A learned bias (a table of positions or segments) is cut to
rank R by its SVD, with error s_{R+1} at most in the spectral norm.

Wu et al., FlashBias: Fast Computation of Attention with Bias, 2025, arXiv:2505.12044.

No command or recipe computes by it. Encoders for ranking read 512 tokens, where the bias is small and held once for a
batch; on one CPU thread with 12 heads of 64, concatenated columns took 1.8, 1.3 and 1.1 times as long as the dense bias
at 128, 512 and 2,048 tokens. What falls is memory, from O(n^2) to O(n R): use it for long texts.

*Deviations*: masks (padding, blocks of packed lists) are not of low rank and stay masks.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.lowrank.linalg import top_k_svd


@catalogued(
    "flashbias",
    area="compress",
    title="FlashBias: Fast Computation of Attention with Bias",
    reach="Python alone: it saves memory for long texts in models that add a bias; at the lengths that rankers read it "
    "is slower than the bias itself, so that no command computes by it",
)
def biased_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    phi_q: Tensor,
    phi_k: Tensor,
    *,
    mask: Tensor | None = None,
    scale: float | None = None,
    multiple: int = 1,
) -> Tensor:
    """Return softmax(scale q k^T + phi_q phi_k^T) v without the bias as a matrix.

    Args:
        q: The queries [batch, heads, n, d].
        k: The keys [batch, heads, m, d].
        v: The values [batch, heads, m, e].
        phi_q: The bias's factor of queries, which broadcasts to [batch, heads, n, R].
        phi_k: The bias's factor of keys, which broadcasts to [batch, heads, m, R].
        mask: Bool, True where attended, or added; as in ``scaled_dot_product_attention``.
        scale: The factor of q k^T; None is 1 / sqrt(d). It does not touch the bias.
        multiple: The width is padded with zeros to a multiple of it (8 for kernels of GPUs).

    Returns:
        The context [batch, heads, n, e].

    Raises:
        UsageError: For factors of unlike rank or length.

    >>> x = torch.zeros(1, 1, 3, 4); phi_q, phi_k = alibi_factors(3, torch.tensor([1.0]))
    >>> biased_attention(x, x, torch.eye(3)[None, None], phi_q, phi_k)[0, 0, 0].argmax().item()
    2
    """
    if phi_q.shape[-1] != phi_k.shape[-1] or phi_q.shape[-2] != q.shape[-2] or phi_k.shape[-2] != k.shape[-2]:
        raise UsageError(
            f"factors of the bias [{phi_q.shape[-2]}, {phi_q.shape[-1]}] and [{phi_k.shape[-2]}, {phi_k.shape[-1]}] do "
            f"not fit {q.shape[-2]} queries and {k.shape[-2]} keys; give one row each and the same rank"
        )
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    queries = torch.cat([q * scale, phi_q.to(q).expand(*q.shape[:-1], -1)], -1)
    keys = torch.cat([k, phi_k.to(k).expand(*k.shape[:-1], -1)], -1)
    width = max(queries.shape[-1], v.shape[-1])
    width += -width % multiple
    queries, keys, values = (F.pad(each, (0, width - each.shape[-1])) for each in (queries, keys, v))
    return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, scale=1.0)[..., : v.shape[-1]]


def alibi_factors(length: int, slopes: Tensor) -> tuple[Tensor, Tensor]:
    """Return phi_q and phi_k [1, heads, length, 2] of the bias -m (i - j).

    Args:
        length: The number of tokens.
        slopes: m [heads].

    >>> phi_q, phi_k = alibi_factors(3, torch.tensor([2.0])); (phi_q @ phi_k.mT)[0, 0].tolist()
    [[0.0, 2.0, 4.0], [-2.0, 0.0, 2.0], [-4.0, -2.0, 0.0]]
    """
    places = torch.arange(length, dtype=slopes.dtype, device=slopes.device)
    m = slopes[:, None].expand(-1, length)
    phi_q = torch.stack([-m * places, m], -1)
    phi_k = torch.stack([torch.ones_like(places), places], -1).expand(len(slopes), -1, -1)
    return phi_q[None], phi_k[None]


def factor_bias(bias: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return phi_q [..., n, R] and phi_k [..., m, R] of the best rank-R bias.

    Args:
        bias: A learned bias [..., n, m], heads and batch in front.
        rank: R, from 1 to min(n, m).

    Raises:
        UsageError: For another rank.
    """
    if not 1 <= rank <= min(bias.shape[-2:]):
        raise UsageError(f"rank {rank} of a bias {list(bias.shape)}: write an integer from 1 to {min(bias.shape[-2:])}")
    parts = [top_k_svd(each, rank) for each in bias.reshape(-1, *bias.shape[-2:])]
    phi_q = torch.stack([part.U * part.s.sqrt() for part in parts]).reshape(*bias.shape[:-1], rank)
    phi_k = torch.stack([part.Vh.t() * part.s.sqrt() for part in parts])
    return phi_q.to(bias), phi_k.reshape(*bias.shape[:-2], bias.shape[-1], rank).to(bias)
