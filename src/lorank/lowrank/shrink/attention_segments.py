"""Queries, keys and values of a model's own attentions on its own texts, head by head."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lorank.errors import UsageError
from lorank.lowrank.shrink.dynamic_attention import Segment
from lorank.lowrank.spectra.attention_limits import find_attentions

VALUES = ("value", "v_proj", "v_lin", "value_proj", "v")
"""What models call the layer that makes values."""
PLAIN = ("bert", "roberta", "xlm-roberta", "camembert", "electra", "distilbert")
"""Types of models whose scores are q k^T / sqrt(d) alone: both directions, no rotary positions, no bias of places."""


def has_plain_scores(model: nn.Module) -> bool:
    """Return whether a model's attention is softmax(q k^T / sqrt(d)) v, without positions or a mask of order."""
    config = getattr(model, "config", None)
    return getattr(config, "model_type", None) in PLAIN and not getattr(config, "is_decoder", False)


@torch.no_grad()
def attention_segments(model: nn.Module, run: Callable[[], object], texts: int) -> dict[str, list[Segment]]:
    """Return q, k and v [tokens, d] of every head on the first texts, by the path of the attention.

    Args:
        model: A model for which ``has_plain_scores`` is true, adapted or not.
        run: It lets the model compute on texts, one at a time where it runs without padding.
        texts: How many of them are kept, 1 or more.

    Raises:
        UsageError: Where a model has positions in its scores, or nothing was computed.
    """
    inner = next((each for each in model.modules() if has_plain_scores(each)), None)
    if inner is None:
        raise UsageError(f"only attention without positions in its scores has segments of its own ({', '.join(PLAIN)})")
    rows: dict[str, dict[str, list[Tensor]]] = {}
    heads: dict[str, int] = {}
    with _keeping(inner, rows, heads, texts):
        run()
    if not rows or not all(len(each["key"]) == len(each["value"]) > 0 for each in rows.values()):
        raise UsageError("no attention has computed queries, keys and values; give texts that are not empty")
    return {
        path: [
            (q[:, head], k[:, head], v[:, head])
            for q, k, v in zip(*(_by_head(each[part], heads[path]) for part in ("query", "key", "value")), strict=True)
            for head in range(heads[path])
        ]
        for path, each in rows.items()
    }


def _by_head(rows: list[Tensor], heads: int) -> list[Tensor]:
    return [each.reshape(len(each), heads, -1) for each in rows]


@contextmanager
def _keeping(
    model: nn.Module, rows: dict[str, dict[str, list[Tensor]]], heads: dict[str, int], texts: int
) -> Iterator[None]:
    mask: list[Tensor] = []

    def note_mask(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        mask[:] = [kwargs["attention_mask"]] if kwargs.get("attention_mask") is not None else []

    def keep(kept: list[Tensor]) -> Callable[[nn.Module, tuple[Any, ...], Tensor], None]:
        def note(_: nn.Module, args: tuple[Any, ...], made: Tensor) -> None:
            if made.dim() == 2:
                made = made[None]
            whole = bool(mask) and mask[0].dim() == 2 and mask[0].shape == made.shape[:2]
            for place in range(len(made)):
                if len(kept) < texts:
                    kept.append(made[place][mask[0][place].bool()].float() if whole else made[place].float())

        return note

    modules = dict(model.named_modules())
    handles = [model.register_forward_pre_hook(note_mask, with_kwargs=True)]
    for path, each in find_attentions(model):
        value = next((v for name in VALUES if isinstance(v := getattr(modules[path], name, None), nn.Module)), None)
        if value is None:
            continue
        heads[path], rows[path] = each.heads, {"query": [], "key": [], "value": []}
        for part, module in (("query", each.query), ("key", each.key), ("value", value)):
            handles.append(module.register_forward_hook(keep(rows[path][part])))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
