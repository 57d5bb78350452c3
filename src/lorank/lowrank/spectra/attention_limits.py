r"""How large attention's scores may be before its LoRA gradients can no longer be had in almost linear time.

    |q_i k_j| / sqrt(d) <= B,    exp(x) ~ sum_{j <= g} x^j / j! = phi(q) phi(k)^T,    phi of (d + g choose g) columns
    attention and its gradients by phi: O(n (d + g choose g) d),    relative error of each weight <= 2 e / (1 - e),
    e = exp(2 B) B^(g + 1) / (g + 1)!

For B = o(sqrt(log n)) a degree g = o(log n) is enough and all products of the backward pass, those of LoRA's factors
among them, are chains of thin matrices. Above it no algorithm is faster than n^2 by a power, if the strong exponential
time hypothesis holds. ``attention_bounds`` measures B on a model's own texts.

Hu, Su, Kuo, Song, Liu, Computational Limits of Low-Rank Adaptation (LoRA) for Transformer-Based Models, 2024,
arXiv:2406.03136.

*Deviations*: [~] the polynomial is Taylor's, in place of the one of least degree. B is bounded by the norms of queries
and keys, max |q| max |k| / sqrt(d) of a head, which rotary positions leave as they are.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any

import torch
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.lowrank.calibration import real_rows

PAIRS = (("query", "key"), ("q_proj", "k_proj"), ("q_lin", "k_lin"), ("query_proj", "key_proj"), ("q", "k"))
"""What models call the layers that make queries and keys."""
HEADS = ("num_attention_heads", "num_heads", "n_heads")
"""What modules and configurations call their number of heads."""
UNSCALED = ("T5", "MT5", "UMT5")
"""How the names of attentions begin that do not divide scores by sqrt(d)."""
MOST_DEGREE = 200


@dataclass(frozen=True)
class AttentionBound:
    """What one layer's attention reaches on texts.

    Attributes:
        path: The module that holds the layers of queries and keys.
        bounds: B of each head.
        length: n, the most tokens of a text.
        width: d of a head.
    """

    path: str
    bounds: tuple[float, ...]
    length: int
    width: int

    @property
    def threshold(self) -> float:
        """sqrt(log n)."""
        return math.sqrt(math.log(max(self.length, 2)))

    @property
    def below(self) -> int:
        """The number of heads whose B is below the threshold."""
        return sum(bound < self.threshold for bound in self.bounds)

    def degree(self, error: float = 0.01) -> int | None:
        """Return the degree at which every weight of every head is right to ``error``; None above 200."""
        return degree_for(max(self.bounds), error)

    def columns(self, error: float = 0.01) -> int | None:
        """Return how many columns phi has at that degree; below ``length`` the thin products are the cheaper ones."""
        degree = self.degree(error)
        return None if degree is None else math.comb(self.width + degree, self.width)


def weight_error(bound: float, degree: int) -> float:
    """Return the largest relative error of an attention weight, infinity where the polynomial says nothing.

    Args:
        bound: B, 0 or more.
        degree: g, 0 or more.

    >>> weight_error(0.5, 4) < 0.002, weight_error(4.0, 4)
    (True, inf)
    """
    if bound <= 0:
        return 0.0
    log_e = 2 * bound + (degree + 1) * math.log(bound) - math.lgamma(degree + 2)
    return 2 * math.exp(log_e) / (1 - math.exp(log_e)) if log_e < 0 else math.inf


def degree_for(bound: float, error: float) -> int | None:
    """Return the least degree whose ``weight_error`` is at most ``error``, None where it is above 200.

    Args:
        bound: B, 0 or more.
        error: The relative error, above 0.

    Raises:
        UsageError: For an error that is not above 0.

    >>> [degree_for(bound, 0.01) for bound in (0.1, 1.0, 4.0, 400.0)]
    [2, 6, 19, None]
    """
    if not error > 0:
        raise UsageError(f"error {error:g}: give a relative error above 0")
    return next((degree for degree in range(MOST_DEGREE + 1) if weight_error(bound, degree) <= error), None)


def polynomial_features(x: Tensor, degree: int) -> Tensor:
    """Return phi(x) [..., n, (d + g choose g)] with phi(x) phi(y)^T = sum_{j <= g} (x y^T)^j / j!.

    Args:
        x: Rows [..., n, d].
        degree: g, 0 or more.

    >>> x = torch.tensor([[1.0, 2.0]]); (polynomial_features(x, 2) @ polynomial_features(x, 2).T).item()
    18.5
    """
    columns = [torch.ones_like(x[..., :1])]
    for power in range(1, degree + 1):
        for places in combinations_with_replacement(range(x.shape[-1]), power):
            counts = [places.count(place) for place in set(places)]
            made = x[..., list(places)].prod(-1, keepdim=True)
            columns.append(made / math.prod(math.factorial(count) for count in counts) ** 0.5)
    return torch.cat(columns, -1)


def polynomial_attention(q: Tensor, k: Tensor, v: Tensor, degree: int, scale: float | None = None) -> Tensor:
    """Return attention [..., n, e] by chains of thin products: no [n, m] matrix is formed, forwards or backwards.

    Args:
        q: The queries [..., n, d].
        k: The keys [..., m, d].
        v: The values [..., m, e].
        degree: The degree of the polynomial; an even one keeps all weights above 0.
        scale: The factor of q k^T; None is 1 / sqrt(d).

    >>> q, k, v = torch.zeros(2, 3), torch.ones(2, 3), torch.eye(2)
    >>> polynomial_attention(q, k, v, 2).tolist()
    [[0.5, 0.5], [0.5, 0.5]]
    """
    root = (q.shape[-1] ** -0.5 if scale is None else scale) ** 0.5
    left, right = polynomial_features(q * root, degree), polynomial_features(k * root, degree)
    return left @ (right.mT @ v) / (left @ right.sum(-2).unsqueeze(-1))


@catalogued(
    "lora-computational-limits",
    area="adapters.form",
    title="Computational Limits of Low-Rank Adaptation (LoRA) for Transformer-Based Models",
    reach="`lorank inspect RUN --attention --data D` checks the norms; the approximate gradients are Python's "
    "(`polynomial_attention`), as no model that a recipe names computes attention so",
)
@torch.no_grad()
def attention_bounds(model: nn.Module, run: Callable[[], object]) -> list[AttentionBound]:
    """Return what every attention of a model reaches while it computes.

    Args:
        model: The model, adapted or not.
        run: It lets the model compute on texts.

    Raises:
        UsageError: Where no module has layers of queries and keys, or nothing was computed.
    """
    found = dict(find_attentions(model))
    if not found:
        names = ", ".join(f"{first}/{second}" for first, second in PAIRS)
        raise UsageError(f"the model has no attention with layers of its own for queries and keys ({names})")
    seen = {path: _Seen(each.scale) for path, each in found.items()}
    with _watching(model, found, seen):
        run()
    silent = next((path for path, each in seen.items() if not each.length), None)
    if silent is not None:
        raise UsageError(f"attention {silent} has computed nothing; give texts that are not empty")
    return [each.bound(path) for path, each in seen.items()]


@dataclass(frozen=True)
class Attention:
    """An attention of a model: its layers of queries and keys, its query heads, and the factor of scores, if stated."""

    query: nn.Module
    key: nn.Module
    heads: int
    scale: float | None


def find_attentions(model: nn.Module) -> Iterator[tuple[str, Attention]]:
    """Yield every attention of a model with its path."""
    config = getattr(model, "config", None)
    for path, module in model.named_modules():
        for first, second in PAIRS:
            query, key = getattr(module, first, None), getattr(module, second, None)
            if isinstance(query, nn.Module) and isinstance(key, nn.Module):
                stated = [getattr(own, name, None) for own in (module, config) for name in HEADS]
                heads = next((each for each in stated if isinstance(each, int) and each > 0), None)
                scale = 1.0 if type(module).__name__.startswith(UNSCALED) else getattr(module, "scaling", None)
                if heads is not None:
                    yield path, Attention(query, key, heads, scale if isinstance(scale, float) else None)
                break


class _Seen:
    """The longest queries and keys of each head, and the longest text."""

    def __init__(self, scale: float | None) -> None:
        self.rows: dict[str, Tensor] = {}
        self.length = self.width = 0
        self.scale = scale

    def add(self, which: str, made: Tensor, mask: Tensor | None, heads: int) -> None:
        rows = real_rows(made.detach(), mask).double()
        width = self.width or rows.shape[-1] // heads
        if which == "query":
            self.width = width = rows.shape[-1] // heads
            whole = mask is not None and mask.dim() == 2 and made.dim() == 3 and made.shape[:2] == mask.shape
            lengths = mask.sum(1) if whole and mask is not None else torch.tensor([made.shape[-2]])
            self.length = max(self.length, int(lengths.max()))
        norms = rows.reshape(len(rows), -1, width).square().sum(-1).amax(0).sqrt().cpu()
        self.rows[which] = torch.maximum(self.rows[which], norms) if which in self.rows else norms

    def bound(self, path: str) -> AttentionBound:
        query, key = self.rows["query"], self.rows["key"]
        shared = key.repeat_interleave(len(query) // len(key))
        scale = self.width**-0.5 if self.scale is None else self.scale
        return AttentionBound(path, tuple((query * shared * scale).tolist()), self.length, self.width)


@contextmanager
def _watching(model: nn.Module, found: Mapping[str, Attention], seen: Mapping[str, _Seen]) -> Iterator[None]:
    mask: list[Tensor] = []

    def note_mask(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        mask[:] = [kwargs["attention_mask"]] if kwargs.get("attention_mask") is not None else []

    def watch(path: str, which: str, heads: int) -> Callable[[nn.Module, tuple[Any, ...], Tensor], None]:
        return lambda _, args, made: seen[path].add(which, made, mask[0] if mask else None, heads)

    handles = [model.register_forward_pre_hook(note_mask, with_kwargs=True)]
    for path, each in found.items():
        handles.append(each.query.register_forward_hook(watch(path, "query", each.heads)))
        handles.append(each.key.register_forward_hook(watch(path, "key", each.heads)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
