r"""Activated LoRA: adapters of a causal model that act from their invocation sequence on, over the base's prefix.

    y_t = W x_t + b + [t >= t0] s B A x_t,    t0 the first token of the last invocation sequence in the prompt

Before t0 every layer computes what the base computes, so the keys and values of the prefix are the base's, bit for
bit, and one cached prefix serves the base and every adapter: only the tokens from t0 on are computed anew. A prompt
without the invocation sequence is the base's. Cached keys and values live in the pages of the same pool as the
adapters (`lorank.serving.forward.page_pool`), and leave it least recently used first.

Greenewald et al., Activated LoRA: Fine-tuned LLMs for Intrinsics, 2025, arXiv:2504.12397.

*Deviations*: the paper masks the updates of query, key and value; here, as in PEFT, whatever layers the adapter has.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.lowrank import adapter_files, peft_config
from lorank.lowrank.base import BaseLinear
from lorank.lowrank.targets import linear_layers
from lorank.ranking.judges.causal import CausalJudge
from lorank.ranking.judges.question import Question, Reply
from lorank.serving.adapters.package import Package
from lorank.serving.forward.loaded_adapter import LoadedAdapter, base_member, open_package
from lorank.serving.forward.lru import LRU, NoRoom
from lorank.serving.forward.mixed import Layout, MixedModel, Tables
from lorank.serving.forward.page_pool import PagePool, page_width
from lorank.serving.forward.segments import Current, Runs, Segments
from lorank.serving.requests.engine import UnknownAdapter


@dataclass
class Prefill:
    """Tokens that were computed, and tokens whose keys and values were found in the cache instead."""

    computed: int = 0
    saved: int = 0


@dataclass(frozen=True)
class Activated:
    """An adapter and the token ids that switch it on."""

    package: Package
    invocation: tuple[int, ...]


def read_activated(folder: str | Path) -> Activated:
    """Read a LoRA folder written by PEFT with ``alora_invocation_tokens``."""
    folder = Path(folder)
    config = adapter_files.read_json(folder / adapter_files.CONFIG)
    invocation = config.pop("alora_invocation_tokens", None)
    if not isinstance(invocation, list) or not invocation or not all(type(token) is int for token in invocation):
        raise UsageError(f"{folder}: adapter_config.json has no alora_invocation_tokens; give the folder of an aLoRA")
    tensors = adapter_files.read_tensors(folder / adapter_files.TENSORS)
    settings, plan, updates, trained, _ = peft_config.parse(config, tensors, folder)
    return Activated(Package(adapter_files.Contents(settings, plan, updates, trained), folder), tuple(invocation))


def invocation_start(ids: Sequence[int], invocation: Sequence[int]) -> int | None:
    """Return where the last occurrence of ``invocation`` in ``ids`` begins, or None.

    >>> invocation_start([1, 8, 9, 2, 8, 9, 3], [8, 9]), invocation_start([1, 2], [8])
    (4, None)
    """
    size = len(invocation)
    starts = range(len(ids) - size, -1, -1)
    return next((at for at in starts if list(ids[at : at + size]) == list(invocation)), None)


@catalogued(
    "alora-activated",
    area="adapters.serve",
    title="Activated LoRA: Fine-tuned LLMs for Intrinsics",
    reach=("Python alone: it keeps prefixes cached between calls of one process; the server scores without a cache"),
)
class ActivatedModel:
    """A causal model under adapters that act from their invocation on; prefixes are cached once for all.

    Args:
        model: a transformers causal LM; its parameters are frozen.
        adapters: by name.
        memory: bytes for adapters and cached prefixes together.
    """

    def __init__(self, model: nn.Module, adapters: dict[str, Activated], *, memory: int = 1 << 28) -> None:
        self.adapters, self.current, self.usage = adapters, Current(), Prefill()
        self.model = model.requires_grad_(False).eval()
        self.mixed = MixedModel(self.model, self.current)
        layers = {path: BaseLinear(module) for path, module in linear_layers(self.model).items()}
        self.pool = PagePool(
            memory, page_width([base.in_features for base in layers.values()]), next(model.parameters()).device
        )
        self.layout = Layout.of(layers, self.pool)
        self._base = base_member(self.layout)
        self.lru: LRU[Any] = LRU(unload=self._unload)

    def logits(self, ids: Sequence[int], adapter: str | None = None, *, reuse: bool = True) -> Tensor:
        """Return the logits [vocabulary] after the last of ``ids``.

        Args:
            ids: the prompt's tokens, at least one.
            adapter: whose; None for the base.
            reuse: whether the keys and values of the prefix may come from the cache and go to it.
        """
        start = len(ids) - 1 if adapter is None else invocation_start(ids, self._find_known(adapter).invocation)
        on = self._base if adapter is None or start is None else self.open(adapter)
        start = len(ids) - 1 if start is None else start
        with torch.inference_mode():
            if reuse and start:
                with self.lru.use(*([adapter] if on is not self._base else [])):
                    return self._continue_prefix(ids, start, self.prefix(tuple(ids[:start])), on)
            self.usage.computed += len(ids)
            logits: Tensor = self.run([(self._base, start), (on, len(ids) - start)], ids).logits
            return logits[0, -1]

    def prefix(self, ids: tuple[int, ...]) -> list[tuple[Tensor, Tensor]]:
        """Return the base's keys and values of each layer for the tokens ``ids``, computed once and kept."""
        fresh: list[list[tuple[Tensor, Tensor]]] = []

        def load() -> list[tuple[Tensor, Tensor]]:
            if not fresh:
                fresh.append(keys_and_values(self.run([(self._base, len(ids))], ids).past_key_values))
                self.usage.computed += len(ids)
            return self._keep(fresh[0])

        known = ("prefix", ids) in self.lru
        try:
            found: list[tuple[Tensor, Tensor]] = self.lru.get(("prefix", ids), load)
        except NoRoom:
            return fresh[0]
        self.usage.saved += len(ids) if known else 0
        return found

    def run(self, members: Sequence[tuple[LoadedAdapter, int]], ids: Sequence[int], past: Any = None) -> Any:
        """Return the model's output for ``ids``, whose tokens belong to ``members`` in turn, each so many."""
        members = [(member, count) for member, count in members if count]
        opened = [member for member, _ in members]
        bounds = tuple(np.cumsum([0, *(count for _, count in members)]).tolist())
        plain = next((i for i, member in enumerate(opened) if member.forms), len(opened))
        tables = Tables(self.layout, opened[:plain]) if plain else None
        inputs = torch.tensor([list(ids)], device=self.pool.pages.device)
        with self.current.batch(opened, plain, tables, Segments(Runs(bounds), Runs(bounds))):
            return self.mixed.module(input_ids=inputs, past_key_values=past, use_cache=True)

    def open(self, name: str) -> LoadedAdapter:
        """Return an adapter in memory."""
        package = self._find_known(name).package
        opened: LoadedAdapter = self.lru.get(name, lambda: open_package(name, "", package, self.model, self.layout))
        return opened

    def _continue_prefix(
        self, ids: Sequence[int], start: int, prefix: list[tuple[Tensor, Tensor]], on: LoadedAdapter
    ) -> Tensor:
        from transformers import DynamicCache

        past = DynamicCache()
        for layer, (keys, values) in enumerate(prefix):
            past.update(keys, values, layer)
        self.usage.computed += len(ids) - start
        logits: Tensor = self.run([(on, len(ids) - start)], ids[start:], past).logits
        return logits[0, -1]

    def _keep(self, pairs: list[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
        held: list[Tensor] = []
        try:
            for tensor in (each for pair in pairs for each in pair):
                held.append(self.pool.hold(tensor))
        except Exception:
            self.pool.release(held)
            raise
        return list(zip(held[::2], held[1::2]))

    def _unload(self, thing: Any) -> None:
        if isinstance(thing, LoadedAdapter):
            thing.close(self.pool)
        else:
            self.pool.release(tensor for pair in thing for tensor in pair)

    def _find_known(self, name: str) -> Activated:
        if name not in self.adapters:
            raise UnknownAdapter(f"no adapter called {name!r}; there are {', '.join(sorted(self.adapters)) or 'none'}")
        return self.adapters[name]


def keys_and_values(cache: Any) -> list[tuple[Tensor, Tensor]]:
    """Return (keys, values) of each layer of a transformers cache, whichever way its version keeps them."""
    if hasattr(cache, "layers"):
        return [(layer.keys, layer.values) for layer in cache.layers]
    return list(zip(cache.key_cache, cache.value_cache))


class ActivatedJudge(CausalJudge):
    """A causal judge that answers through an adapter's invocation, over prefixes cached for all its adapters.

    Args:
        activated: the model and its adapters.
        adapter: which of them answers.
        tokenizer: the model's tokenizer.
        options: further arguments of ``CausalJudge``.
    """

    def __init__(self, activated: ActivatedModel, adapter: str, tokenizer: Any, **options: Any) -> None:
        super().__init__(activated.model, tokenizer, **options)
        self.activated, self.adapter = activated, adapter
        self.invocation = list(activated.adapters[adapter].invocation)

    def encode(self, prompt: str) -> list[int]:
        """Return the tokens of a prompt, the invocation behind them where the prompt does not hold it."""
        ids = super().encode(prompt)
        return ids if invocation_start(ids, self.invocation) is not None else ids + self.invocation

    def _by_logits(self, questions: list[Question], prompts: list[list[int]]) -> list[Reply]:
        replies = []
        for question, prompt in zip(questions, prompts):
            row = self.activated.logits(prompt, self.adapter).float()
            tokens, meanings = self.candidates(question)
            replies.append(Reply(self._read(question, row[tokens], meanings), len(prompt), 1))
        return replies

    def _by_text(self, questions: list[Question], prompts: list[list[int]]) -> list[Reply]:
        raise UsageError("an activated judge reads its answers from logits; ask pointwise, pairwise or setwise")
