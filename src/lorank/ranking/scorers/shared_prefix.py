r"""Prompts that begin alike: their beginning is computed once, and every prompt goes on from its keys and values.

The prompts of one list agree in system prompt, instruction and query. Where two of them first differ is found in their
token ids, so that no text is tokenised apart. Of a batch whose prompts all end in the last column

    pads | beginning, from the cache | beginning, once more | document and the rest of the prompt
         K columns                   ^ input: W - K columns, as many as the longest rest has

the first K columns come from the cache, and a shorter prompt computes some of its beginning again where it would
otherwise be padded. Every key stands where it stands without a cache, so that attention masks and sliding windows need
nothing of their own. Keys keep the position that they were computed at: a beginning is the first P tokens of a prompt.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from lorank.ranking.scorers.tokens import Ragged

PLAIN = ("full_attention", "sliding_attention")
"""Kinds of layers whose past is one key and one value per token."""
BY_LENGTH = ("dynamic", "longrope", "su")
"""Rotary embeddings that turn the same position by another angle in a longer prompt."""
WORTH = 64
"""Tokens that must be saved, at least, before a list's beginning is computed apart."""
ATTENDED = 4
"""A cached token that is attended to costs so many times less than one that is computed."""


def reuse_refusal(module: nn.Module) -> str | None:
    """Return why the past of a causal model cannot be computed once for several prompts, None where it can.

    >>> from transformers import MambaConfig, MambaForCausalLM
    >>> reuse_refusal(MambaForCausalLM(MambaConfig(vocab_size=8, hidden_size=8, num_hidden_layers=1, state_size=2)))
    'its past is a state, not a key and a value per token'
    """
    config: Any = module.config
    kinds = set(getattr(config, "layer_types", None) or PLAIN)
    if getattr(module, "_is_stateful", False) or getattr(config, "is_encoder_decoder", False):
        return "its past is a state, not a key and a value per token"
    if config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        return "its architecture is an encoder's"
    if not {"position_ids", "past_key_values"} <= set(signature(module.forward).parameters):
        return "it is not given positions and a past"
    if not kinds <= set(PLAIN):
        return f"it has layers of the kind {', '.join(sorted(kinds - set(PLAIN)))}"
    if getattr(config, "num_kv_shared_layers", 0):
        return "its layers share keys and values"
    turned = rope_kinds(getattr(config, "rope_parameters", None), getattr(config, "rope_scaling", None))
    if turned & set(BY_LENGTH):
        return f"its rotary embedding ({', '.join(sorted(turned & set(BY_LENGTH)))}) depends on the prompt's length"
    return None


def rope_kinds(*settings: object) -> set[str]:
    """Return the kinds of rotary embeddings that settings name, those of single layers included.

    >>> sorted(rope_kinds({"full_attention": {"rope_type": "default"}}, {"type": "dynamic"}, None))
    ['default', 'dynamic']
    """
    found = set()
    for setting in settings:
        if isinstance(setting, Mapping):
            found |= {str(setting[key]) for key in ("rope_type", "type") if setting.get(key) is not None}
            found |= rope_kinds(*setting.values())
    return found


class PrefixLayer(DynamicLayer):
    """One layer's keys and values of the cached columns of a batch; what is computed is added, and not kept.

    Args:
        keys: The keys of all beginnings, [tokens, heads, width].
        values: Their values, [tokens, heads, width].
        at: The int64 [rows, columns] place in them of each cached column.
    """

    def __init__(self, keys: Tensor, values: Tensor, at: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.all_keys, self.all_values, self.at = keys, values, at

    def get_seq_length(self, *args: Any, **kwargs: Any) -> int:
        """Return the number of cached columns."""
        return self.at.shape[1]

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Return keys and values [rows, heads, columns, width] of the cached columns and the new ones."""
        return self.joined(self.all_keys, key_states), self.joined(self.all_values, value_states)

    def joined(self, known: Tensor, new: Tensor) -> Tensor:
        """Return the cached columns of ``known`` before ``new`` [rows, heads, columns, width]."""
        taken = known.index_select(0, self.at.reshape(-1)).view(*self.at.shape, *known.shape[1:])
        return torch.cat([taken.transpose(1, 2), new], dim=2)


@dataclass(frozen=True)
class Prefixes:
    """The beginnings of several lists: the tokens of each, and keys and values of every layer one after another.

    Args:
        lengths: The int64 [lists] tokens of each beginning; 0 where nothing is shared.
        layers: Keys and values [tokens of all beginnings, heads, width] per layer.
    """

    lengths: np.ndarray
    layers: Sequence[tuple[Tensor, Tensor]]

    @classmethod
    def of(cls, body: nn.Module, given: dict[str, Tensor], lengths: np.ndarray) -> "Prefixes":
        """Compute the beginnings of lists.

        Args:
            body: The model below its head.
            given: The beginnings longer than 0, padded in front, as ``pad_left`` returns them.
            lengths: The int64 [lists] tokens of each beginning.
        """
        cache = DynamicCache()
        body(**given, past_key_values=cache, use_cache=True)
        inside = given["attention_mask"].bool()
        layers: Iterable[Any] = cache.layers
        return cls(lengths, [(plain(layer.keys, inside), plain(layer.values, inside)) for layer in layers])

    def continued(self, given: dict[str, Tensor], lengths: np.ndarray, rows: np.ndarray) -> dict[str, Any]:
        """Return the model's arguments for the columns of a batch that the cache does not hold, and the cache.

        Args:
            given: Whole prompts, padded in front, as ``pad_left`` returns them.
            lengths: The int64 [rows] tokens of each prompt, at least one more than its list's beginning has.
            rows: The int64 [rows] list of each prompt.
        """
        mask, shared = given["attention_mask"], self.lengths[rows]
        known = mask.shape[1] - int((lengths - shared).max())
        if not known or not self.layers:
            return given
        begins = (np.cumsum(self.lengths) - self.lengths)[rows]
        pads = mask.shape[1] - lengths
        at = begins[:, None] + np.maximum(np.arange(known) - pads[:, None], 0)
        places = torch.from_numpy(np.minimum(at, self.lengths.sum() - 1)).to(mask.device)
        return {
            "input_ids": given["input_ids"][:, known:],
            "position_ids": given["position_ids"][:, known:],
            "attention_mask": mask,
            "past_key_values": Cache(layers=[PrefixLayer(keys, values, places) for keys, values in self.layers]),
        }


def plain(states: Tensor, inside: Tensor) -> Tensor:
    """Return keys or values [rows, heads, columns, width] as [tokens, heads, width], without the padding."""
    return states.transpose(1, 2)[inside]


def common_tokens(blocks: Iterable[tuple[Ragged, np.ndarray]]) -> np.ndarray:
    """Return the tokens int64 that all sequences begin with in common.

    Args:
        blocks: Sequences, and how many of the last tokens of each are not counted, int64 [sequences].

    >>> rows = Ragged(np.array([5, 6, 7, 5, 6, 8, 9]), np.zeros(7, np.int64), np.array([3, 4]))
    >>> common_tokens([(rows, np.array([1, 1]))]), common_tokens([(rows, np.array([2, 1]))])
    (array([5, 6]), array([5]))
    """
    first: np.ndarray | None = None
    for block, rest in blocks:
        most = max(0, int((block.lengths - rest).min()))
        starts = np.cumsum(block.lengths) - block.lengths
        first = block.ids[:most] if first is None else first[:most]
        same = (block.ids[starts[:, None] + np.arange(len(first))] == first).all(0)
        first = first if same.all() else first[: int(np.argmin(same))]
    return np.zeros(0, np.int64) if first is None else first.copy()


def beginnings(batch: Ragged, lengths: np.ndarray) -> Ragged:
    """Return the first ``lengths`` int64 [sequences] tokens of each sequence, without those of which it is none."""
    starts, kept = np.cumsum(batch.lengths) - batch.lengths, lengths[lengths > 0]
    inner = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    at = np.repeat(starts, lengths) + inner
    return Ragged(batch.ids[at], batch.types[at], kept)
