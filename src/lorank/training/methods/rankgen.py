r"""RankGen: a dual encoder that knows how a text goes on, and picks among what a language model writes.

    L = - \log \frac{\exp(p \cdot c^+ / \tau)}{\sum_{c \in \{c^+\} \cup N \cup batch} \exp(p \cdot c / \tau)}

with p the vector of a prefix, c^+ that of its true continuation, and N negatives of two sorts from one sampler:
*in-book*, other places of the same document, which share its topic and its words, and *generated*, what a language
model writes after the prefix, fluent but off. The sampler's collection trains a ``BiEncoder`` with the loss
``softmax`` and shared lists, which is this loss with every continuation of the batch in it. Then a language model
over-generates and the ranker chooses, at the end (:func:`over_generate`) or after each piece (:func:`beam_search`).

Paper: K. Krishna, Y. Chang, J. Wieting, M. Iyyer, RankGen: Improving Text Generation with Large Ranking Models,
EMNLP 2022.

*Deviations*: both sorts of negatives train one model, where the paper trains a model on each and one on both; places
are sentence boundaries.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lorank.catalogue import catalogued
from lorank.data.collection import Collection, Split
from lorank.errors import UsageError
from lorank.ranking.scorers.ranker import Ranked, Ranker

Generate = Callable[[str, int, np.random.Generator], Sequence[str]]
"""(text so far, how many, generator) -> pieces that a language model writes next."""

_BOUNDARY = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True)
class Continuation:
    """A ``prefix``, its ``true`` continuation, and ``negatives`` as (sort, text)."""

    prefix: str
    true: str
    negatives: tuple[tuple[str, str], ...]


@catalogued(
    "rankgen",
    area="models",
    title="RankGen: Improving Text Generation with Large Ranking Models",
    reach="Python alone: it makes training rows out of books; a file of them is --data of `lorank train`",
)
class ContinuationSampler:
    """Draws prefixes, true continuations and negatives of both sorts from documents.

    Args:
        documents: Texts; those without room for a prefix and a continuation are passed over.
        before: Sentences of a prefix.
        after: Sentences of a continuation.
        in_book: Negatives of each prefix from other places of its document.
        generated: Negatives of each prefix that ``generate`` writes.
        generate: The language model; needed where ``generated`` is above 0.
        seed: Of what is drawn; equal samplers draw alike.

    >>> sampler = ContinuationSampler(["One. Two. Three. Four."], before=1, in_book=1)
    >>> [(each.prefix, each.true) for each in sampler.sample()]
    [('One.', 'Two.'), ('Two.', 'Three.'), ('Three.', 'Four.')]
    """

    def __init__(
        self,
        documents: Sequence[str],
        *,
        before: int = 2,
        after: int = 1,
        in_book: int = 2,
        generated: int = 0,
        generate: Generate | None = None,
        seed: int = 0,
    ) -> None:
        if min(before, after) < 1 or min(in_book, generated) < 0:
            raise UsageError(
                f"before and after must be 1 or more, in_book and generated 0 or more; got {before}, "
                f"{after}, {in_book}, {generated}"
            )
        if generated and generate is None:
            raise UsageError(f"generated={generated} negatives need a language model; give generate")
        self.before, self.after, self.seed = before, after, seed
        self.sentences = [_BOUNDARY.split(text.strip()) for text in documents]
        self.counts = {"in-book": in_book, "generated": generated}
        self._generate = generate

    def sample(self) -> list[Continuation]:
        """Return every place of every document as a continuation, with its negatives."""
        return [each for _, each in self._by_document()]

    def collection(self, name: str = "continuations", dev: float = 0.1) -> Collection:
        """Return prefixes as queries and continuations as documents, with lists of their own, to be trained on.

        About ``dev`` (0 to 1) of the documents, one at least, give the dev split; no document is in both. Train with
        ``fit(BiEncoder(base), collection, loss="softmax", recipe=Recipe(lists=ListSettings(shared=True)))``.
        """
        drawn = self._by_document()
        books = sorted({book for book, _ in drawn})
        held = set(np.random.default_rng([self.seed, 1]).permutation(books)[: max(1, round(dev * len(books)))].tolist())
        if not 0 < dev < 1 or len(held) == len(books):
            raise UsageError(f"{len(books)} documents cannot be divided with dev={dev}; give more, or another share")
        texts: list[str] = []
        parts: dict[str, Split] = {part: Split(part, {}, {}, {}) for part in ("train", "dev")}
        for number, (book, each) in enumerate(drawn):
            part, query = parts["dev" if book in held else "train"], f"p{number}"
            own = list(dict.fromkeys([each.true, *(text for _, text in each.negatives)]))
            ids = [f"c{len(texts) + i}" for i in range(len(own))]
            texts += own
            part.queries[query], part.qrels[query] = each.prefix, {ids[0]: 1}
            part.candidates[query] = dict.fromkeys(ids, 0.0)  # type: ignore[index]
        return Collection(name, [f"c{i}" for i in range(len(texts))], texts, parts)

    def _by_document(self) -> list[tuple[int, Continuation]]:
        rng, drawn = np.random.default_rng([self.seed, 0]), []
        for book, sentences in enumerate(self.sentences):
            for place in range(self.before, len(sentences) - self.after + 1):
                prefix, true = self._prefix(book, place), self._continuation(book, place)
                negatives = tuple(
                    (sort, text)
                    for sort, count in self.counts.items()
                    for text in SORTS[sort](self, book, place, count, rng)
                    if text != true
                )
                drawn.append((book, Continuation(prefix, true, negatives)))
        if not drawn:
            raise UsageError(
                f"no document has the {self.before + self.after} sentences that a prefix and a continuation take"
            )
        return drawn

    def _prefix(self, book: int, place: int) -> str:
        return " ".join(self.sentences[book][place - self.before : place])

    def _continuation(self, book: int, place: int) -> str:
        return " ".join(self.sentences[book][place : place + self.after])

    def _in_book(self, book: int, place: int, count: int, rng: np.random.Generator) -> list[str]:
        last = len(self.sentences[book]) - self.after
        others = [i for i in range(last + 1) if abs(i - place) >= self.after]
        return [self._continuation(book, int(i)) for i in rng.permutation(others)[:count]]

    def _draw_generated(self, book: int, place: int, count: int, rng: np.random.Generator) -> list[str]:
        return list(self._generate(self._prefix(book, place), count, rng)) if count and self._generate else []


SORTS = {"in-book": ContinuationSampler._in_book, "generated": ContinuationSampler._draw_generated}
"""Each sort of negatives and how (book, place, count, rng) draws them."""


def over_generate(prefix: str, generate: Generate, ranker: Ranker, *, samples: int = 20, seed: int = 0) -> list[Ranked]:
    """Return continuations of ``prefix``, the ranker's favourite first.

    Args:
        prefix: The text to go on from.
        generate: It draws continuations of a text.
        ranker: The ranker, to which the prefix is the query.
        samples: The number of continuations that are drawn and returned, 1 or more.
        seed: The seed of the draws.

    Raises:
        UsageError: If ``samples`` is below 1.
    """
    if samples < 1:
        raise UsageError(f"samples must be 1 or more; got {samples}")
    return ranker.rank(prefix, list(generate(prefix, samples, np.random.default_rng(seed))))


def beam_search(
    prefix: str, generate: Generate, ranker: Ranker, *, steps: int = 2, beam: int = 2, samples: int = 10, seed: int = 0
) -> list[Ranked]:
    """Return the ``beam`` best continuations of ``steps`` pieces, best first.

    After each piece the continuations so far are scored against the prefix as wholes, and the best ``beam`` of
    beam x samples go on.

    Args:
        prefix: The text to go on from.
        generate: It draws continuations of a text.
        ranker: The ranker, to which the prefix is the query.
        steps: The number of pieces of a continuation, 1 or more.
        beam: The number of continuations that go on after each piece, 1 or more.
        samples: The number of pieces that are drawn after each of them, 1 or more.
        seed: The seed of the draws.

    Raises:
        UsageError: If ``steps``, ``beam`` or ``samples`` is below 1.
    """
    if min(steps, beam, samples) < 1:
        raise UsageError(f"steps, beam and samples must be 1 or more; got {steps}, {beam}, {samples}")
    rng, best = np.random.default_rng(seed), [Ranked(0, 0.0, "")]
    for _ in range(steps):
        longer = [
            f"{each.text} {piece}".strip()
            for each in best
            for piece in generate(f"{prefix} {each.text}".strip(), samples, rng)
        ]
        best = ranker.rank(prefix, list(dict.fromkeys(longer)), top=beam)
    return best


def sample_with(
    module: Any, tokenizer: Any, *, tokens: int = 32, temperature: float = 1.0, top_p: float = 0.9
) -> Generate:
    """Return a transformers language model as ``Generate``: it draws new tokens by nucleus sampling.

    Torch's own generator is left as it was.

    Args:
        module: The causal language model.
        tokenizer: The tokenizer of the model.
        tokens: The most new tokens per continuation, 1 or more.
        temperature: The number above 0 by which logits are divided.
        top_p: The probability, in (0, 1], of the smallest set of tokens that is drawn from.
    """
    import torch

    def generate(text: str, count: int, rng: np.random.Generator) -> list[str]:
        given = tokenizer(text, return_tensors="pt").to(module.device)
        with torch.random.fork_rng(devices=[]), torch.inference_mode():
            torch.manual_seed(int(rng.integers(2**31)))
            written = module.generate(
                input_ids=given["input_ids"],
                attention_mask=given["attention_mask"],
                do_sample=True,
                num_return_sequences=count,
                max_new_tokens=tokens,
                temperature=temperature,
                top_p=top_p,
                pad_token_id=tokenizer.pad_token_id,
            )
        replies: list[str] = tokenizer.batch_decode(written[:, given["input_ids"].shape[1] :], skip_special_tokens=True)
        return replies

    return generate
