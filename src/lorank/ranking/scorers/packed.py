"""BERT, RoBERTa and XLM-RoBERTa run on token sequences laid end to end, with no padding in any matrix product.

All sequences of a batch form one matrix [tokens, dim]; only attention sees sequences apart, in groups of like
length. The last layer can be computed for the first token of each sequence alone, which is all that a
classification head reads: its keys and values need every token, its query, output and feed-forward do not.

The scores are those of the padded model up to rounding. In bfloat16 the matrix products, the activation and
attention run in that format, while the residual stream and the norms stay in float32: rounding them too would
cost more order than it saves time. Layers that are no plain ``nn.Linear`` (an adapter, a quantised weight, a
hook) are called as they are; plain ones are cast once, and the three attention projections become one product
where no gradient is asked for.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lorank.layers import FactoredLinear
from lorank.ranking.scorers.attention import attend
from lorank.ranking.scorers.tokens import Ragged

PACKABLE = ("BertModel", "RobertaModel", "XLMRobertaModel")
WASTE = 256
"""Padded places that one attention group may hold."""

Step = Callable[[Tensor], Tensor]
Projections = Callable[[Tensor], Sequence[Tensor]]
Project = Callable[[Sequence[nn.Module], torch.dtype], Projections]


def can_pack(backbone: nn.Module) -> bool:
    """Return True for the encoders that ``encode_packed`` knows, as transformers made them."""
    config = getattr(backbone, "config", None)
    return (
        type(backbone).__name__ in PACKABLE
        and type(backbone).__module__.startswith("transformers.")
        and not config.is_decoder
        and not config.add_cross_attention
        and getattr(config, "position_embedding_type", "absolute") in ("absolute", None)
        and not any(getattr(part, "gradient_checkpointing", False) for part in backbone.modules())
    )


@dataclass(frozen=True)
class Group:
    """Neighbouring sequences that attend in one call: tokens ``begin`` to ``end``, first sequence and count.

    Where lengths differ, ``places`` [count * longest] maps padded places to tokens, ``real`` lists the padded
    places that hold tokens, and ``mask`` bool [count, 1, 1, longest] is True at tokens.
    """

    begin: int
    end: int
    first: int
    count: int
    longest: int
    places: Tensor | None
    real: Tensor | None
    mask: Tensor | None


class Spread(torch.autograd.Function):
    """Tokens [tokens, dim] to padded places; padded places take some token's values, which attention masks.

    As they have no influence, the gradient is a plain gather, where that of ``index_select`` would be a slow
    scatter.
    """

    @staticmethod
    def forward(tokens: Tensor, places: Tensor, real: Tensor) -> Tensor:
        return tokens.index_select(0, places)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[2])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return grad.index_select(0, ctx.saved_tensors[0]), None, None


class Collect(torch.autograd.Function):
    """Padded places back to tokens: the inverse of ``Spread``; what padded places hold is dropped."""

    @staticmethod
    def forward(padded: Tensor, real: Tensor) -> Tensor:
        return padded.index_select(0, real)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])
        ctx.size = len(inputs[0])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad.new_zeros(ctx.size, grad.shape[1]).index_copy(0, ctx.saved_tensors[0], grad), None


def attention_groups(lengths: np.ndarray, device: torch.device) -> list[Group]:
    """Divide sequences, in the order given, into groups that waste little when padded."""
    groups, first = [], 0
    ends = np.cumsum(lengths)
    while first < len(lengths):
        stop, longest, tokens = first, 0, 0
        while stop < len(lengths):
            grown = max(longest, int(lengths[stop]))
            if grown * (stop + 1 - first) - (tokens + int(lengths[stop])) > WASTE:
                break
            longest, tokens, stop = grown, tokens + int(lengths[stop]), stop + 1
        groups.append(attention_group(lengths[first:stop], first, int(ends[first] - lengths[first]), device))
        first = stop
    return groups


def attention_group(lengths: np.ndarray, first: int, begin: int, device: torch.device) -> Group:
    """Build one group from the lengths of its sequences.

    Args:
        lengths: The int64 [count] numbers of tokens of the sequences.
        first: The number of the first sequence in the batch.
        begin: The place of the first token in the batch.
        device: The device of the group's index tensors.
    """
    longest, count, tokens = int(lengths.max()), len(lengths), int(lengths.sum())
    if tokens == longest * count:
        return Group(begin, begin + tokens, first, count, longest, None, None, None)
    inside = np.arange(longest) < lengths[:, None]
    places = np.zeros(inside.shape, np.int64)
    places[inside] = np.arange(tokens)
    return Group(
        begin,
        begin + tokens,
        first,
        count,
        longest,
        torch.from_numpy(places.reshape(-1)).to(device),
        torch.from_numpy(np.flatnonzero(inside)).to(device),
        torch.from_numpy(inside[:, None, None, :]).to(device),
    )


@dataclass(frozen=True)
class PackedLayer:
    """One transformer layer made ready: projections and norms in the format asked for."""

    query: Projections
    key_value: Projections
    query_key_value: Projections
    attention_output: Projections
    attention_norm: Step
    feed_forward: Projections
    output: Projections
    output_norm: Step
    activation: Step
    heads: int
    dropout: nn.Dropout
    attention_dropout: float

    def __call__(self, hidden: Tensor, groups: Sequence[Group], firsts: Tensor | None) -> Tensor:
        """Return the layer's output for all tokens [tokens, dim], or for ``firsts`` only [sequences, dim]."""
        if firsts is None:
            residual, attend = hidden, self.attend_all
            query, key, value = self.query_key_value(hidden)
        else:
            residual, attend = hidden.index_select(0, firsts), self.attend_first
            (query,), (key, value) = self.query(residual), self.key_value(hidden)
        context = torch.cat([attend(query, key, value, group) for group in groups])
        attended = self.attention_norm(self.dropout(self.attention_output(context)[0]) + residual)
        inner = self.output(self.activation(self.feed_forward(attended)[0]))[0]
        return self.output_norm(self.dropout(inner) + attended)

    def attend_all(self, query: Tensor, key: Tensor, value: Tensor, group: Group) -> Tensor:
        """Return the context of every token of a group [tokens of the group, dim].

        Args:
            query: The queries of all tokens of the batch [tokens, dim].
            key: The keys of all tokens of the batch [tokens, dim].
            value: The values of all tokens of the batch [tokens, dim].
            group: The group of sequences.
        """
        q, k, v = (self.spread(part[group.begin : group.end], group) for part in (query, key, value))
        context = self.weigh(q, k, v, group).transpose(1, 2).reshape(group.count * group.longest, -1)
        return context if group.real is None else Collect.apply(context, group.real)

    def attend_first(self, query: Tensor, key: Tensor, value: Tensor, group: Group) -> Tensor:
        """Return the context of the first token of each sequence of a group [count, dim].

        Args:
            query: The queries of the first tokens [sequences, dim].
            key: The keys of all tokens of the batch [tokens, dim].
            value: The values of all tokens of the batch [tokens, dim].
            group: The group of sequences.
        """
        q = query[group.first : group.first + group.count]
        q = q.view(group.count, 1, self.heads, -1).transpose(1, 2)
        k, v = (self.spread(part[group.begin : group.end], group) for part in (key, value))
        return self.weigh(q, k, v, group).transpose(1, 2).reshape(group.count, -1)

    def spread(self, tokens: Tensor, group: Group) -> Tensor:
        """Return a group's tokens as [count, heads, longest, head size]."""
        if group.places is not None:
            tokens = Spread.apply(tokens, group.places, group.real)
        return tokens.view(group.count, group.longest, self.heads, -1).transpose(1, 2)

    def weigh(self, q: Tensor, k: Tensor, v: Tensor, group: Group) -> Tensor:
        """Return scaled dot-product attention of a group.

        Args:
            q: The queries [count, heads, query tokens, head dim].
            k: The keys [count, heads, tokens, head dim].
            v: The values [count, heads, tokens, head dim].
            group: The group of sequences, with its mask.

        Returns:
            The context [count, heads, query tokens, head dim].
        """
        return attend(q, k, v, group.mask, self.attention_dropout)


def packed_layer(layer: Any, heads: int, dtype: torch.dtype, project: "Project | None" = None) -> PackedLayer:
    """Make one BERT layer ready to run in ``dtype``.

    Args:
        layer: The BERT layer of the model.
        heads: The number of attention heads.
        dtype: The number format in which the layer runs.
        project: It makes the products of the layer; None stands for ``projection``.
    """
    project = project or projection
    attention, output = layer.attention, layer.output
    q, k, v = attention.self.query, attention.self.key, attention.self.value
    return PackedLayer(
        query=project([q], dtype),
        key_value=project([k, v], dtype),
        query_key_value=project([q, k, v], dtype),
        attention_output=project([attention.output.dense], dtype),
        attention_norm=attention.output.LayerNorm,
        feed_forward=project([layer.intermediate.dense], dtype),
        output=project([output.dense], dtype),
        output_norm=output.LayerNorm,
        activation=layer.intermediate.intermediate_act_fn,
        heads=heads,
        dropout=output.dropout,
        attention_dropout=attention.self.dropout.p if layer.training else 0.0,
    )


def is_plain(module: nn.Module) -> bool:
    """Return True for an ``nn.Linear`` that has neither hooks nor a replacement."""
    return type(module) is nn.Linear and not module._forward_hooks and not module._forward_pre_hooks


def is_plain_product(module: FactoredLinear) -> bool:
    """Return True for a product of two plain layers without hooks."""
    hooked = module._forward_hooks or module._forward_pre_hooks
    return not hooked and is_plain(module.first) and is_plain(module.second)


def projection(modules: Sequence[nn.Module], dtype: torch.dtype) -> Projections:
    """Return x -> the output of each module; plain layers without gradients become one product.

    A wrapper that says it is ``merged`` into its ``base`` is read as that base.
    """
    modules = [m.base if getattr(m, "merged", False) else m for m in modules]
    if not torch.is_grad_enabled() and any(isinstance(m, FactoredLinear) for m in modules):
        return factored_projection(modules, dtype)
    if not torch.is_grad_enabled() and all(is_plain(m) and m.bias is not None for m in modules):
        weight = torch.cat([m.weight.to(dtype) for m in modules]) if len(modules) > 1 else modules[0].weight.to(dtype)
        bias = torch.cat([m.bias for m in modules]).to(dtype)
        return lambda x: F.linear(x.to(dtype), weight, bias).chunk(len(modules), dim=-1)
    return _one_by_one(modules, dtype)


def _one_by_one(modules: Sequence[nn.Module], dtype: torch.dtype) -> Projections:
    """Return x -> the output of each module, called as it is."""
    if dtype is torch.float32:
        return lambda x: [m(x) for m in modules]

    def mixed(x: Tensor) -> list[Tensor]:
        with torch.autocast(x.device.type, dtype=dtype):
            return [m(x.to(dtype)).to(dtype) for m in modules]

    return mixed


def factored_projection(modules: Sequence[nn.Module], dtype: torch.dtype) -> Projections:
    """Return x -> the output of each module, where some are products of two factors: their first factors become one
    product, and so do the layers that are no product."""
    factored = [isinstance(m, FactoredLinear) and is_plain_product(m) for m in modules]
    pairs: list[Any] = [m for m, split in zip(modules, factored, strict=True) if split]
    rest = [m for m, split in zip(modules, factored, strict=True) if not split]
    if not pairs:
        return _one_by_one(modules, dtype)
    down = torch.cat([m.first.weight for m in pairs]).to(dtype)
    up = [(m.second.weight.to(dtype), None if m.second.bias is None else m.second.bias.to(dtype)) for m in pairs]
    ranks, others = [m.rank for m in pairs], projection(rest, dtype) if rest else None

    def project(x: Tensor) -> list[Tensor]:
        inner = F.linear(x.to(dtype), down).split(ranks, dim=-1)
        made = iter([F.linear(part, *weights) for part, weights in zip(inner, up, strict=True)])
        plain = iter([] if others is None else others(x))
        return [next(made) if split else next(plain) for split in factored]

    return project


class PackedEncoder:
    """A view of a BERT-like encoder that runs on ragged batches; made anew for each call, so never stale."""

    def __init__(self, backbone: Any, dtype: torch.dtype = torch.float32, project: Project | None = None) -> None:
        heads = backbone.config.num_attention_heads
        self.embeddings = backbone.embeddings
        self.layers = [packed_layer(layer, heads, dtype, project) for layer in backbone.encoder.layer]

    def __call__(self, batch: Ragged, *, first_only: bool = False) -> Tensor:
        """Return hidden states [tokens, dim], or of the first token of each sequence only [sequences, dim]."""
        device = next(self.embeddings.parameters()).device
        groups = attention_groups(batch.lengths, device)
        firsts = torch.from_numpy(np.cumsum(batch.lengths) - batch.lengths).to(device) if first_only else None
        hidden = self.embed(batch, device)
        for layer in self.layers[:-1]:
            hidden = layer(hidden, groups, None)
        return self.layers[-1](hidden, groups, firsts)

    def embed(self, batch: Ragged, device: torch.device) -> Tensor:
        """Return the embedded tokens [tokens, dim]."""
        positions = positions_of(batch, getattr(self.embeddings, "padding_idx", None))
        ids, types, places = (
            torch.from_numpy(part).to(device).unsqueeze(0) for part in (batch.ids, batch.types, positions)
        )
        return self.embeddings(input_ids=ids, token_type_ids=types, position_ids=places)[0]


def positions_of(batch: Ragged, padding: int | None) -> np.ndarray:
    """Return the position of each token within its sequence, int64 [tokens].

    With a ``padding`` token positions count from behind its number, as RoBERTa's do; where a text holds that very token
    it stands at the position of padding and the others are numbered without it.

    >>> batch = Ragged(np.array([5, 1, 6, 7]), np.zeros(4, np.int64), np.array([3, 1]))
    >>> positions_of(batch, None).tolist(), positions_of(batch, 1).tolist()
    ([0, 1, 2, 0], [2, 1, 3, 2])
    """
    begins = np.cumsum(batch.lengths) - batch.lengths
    if padding is None:
        return np.arange(len(batch.ids)) - np.repeat(begins, batch.lengths)
    real = (batch.ids != padding).astype(np.int64)
    counted = np.cumsum(real)
    before = (counted - real)[begins[batch.lengths > 0]] if len(real) else begins[:0]
    return (counted - np.repeat(before, batch.lengths[batch.lengths > 0])) * real + padding
