"""PromptReps: a causal language model, asked for one word, gives a dense and a sparse vector; nothing is trained.

The model reads "use one word to represent the passage" and begins its answer. At the last token of the prompt

    dense  h / |h|, h the last hidden state             sparse  log(1 + max(0, logit_t)) for tokens t of the text,

the ``terms`` largest of them kept. With cosine and inner product, each brought to [0, 1] over the documents,

    score = w dense + (1 - w) sparse.

As a strategy it orders a list by these scores. Calls: one pass a query and one a different document of all lists.

Paper: Zhuang, Ma, Koopman, Lin and Zuccon, PromptReps: Prompting Large Language Models to Generate Dense and Sparse
Representations for Zero-Shot Document Retrieval, 2024.

*Deviations*: tokens are those of the lower-cased words as the tokenizer writes them after a space; stop words are left
out only where they are given.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array, vstack
from torch import nn

from lorank.errors import UsageError
from lorank.ranking.consensus.fusion import to_unit_interval
from lorank.ranking.judges import Judge, Usage
from lorank.ranking.scorers.ranker import Ranker
from lorank.ranking.strategies.candidate_list import CandidateList
from lorank.ranking.strategies.opened_model import causal_of
from lorank.ranking.strategies.registry import Ordered, Standing, by_score, register_model_strategy

ASK = "Use one word to represent the {kind} in a retrieval task. Make sure your word is in lowercase."
BEGUN = 'The word is: "'
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Representations:
    """Of n texts: ``dense`` float32 [n, dim] of length 1, and ``sparse`` [n, vocabulary], 0 and up."""

    dense: np.ndarray
    sparse: csr_array


class PromptReps:
    """Represents texts by a transformers causal LM.

    Args:
        model: The model.
        tokenizer: Its tokenizer; a chat template is applied where it has one.
        terms: Tokens that a sparse vector keeps.
        words: Words of a text that are shown.
        stop_words: Words that a sparse vector leaves out.
    """

    def __init__(
        self, model: nn.Module, tokenizer: Any, *, terms: int = 128, words: int = 300, stop_words: Collection[str] = ()
    ) -> None:
        if terms < 1 or words < 1:
            raise UsageError(f"terms and words must be 1 or above, got {terms} and {words}")
        self.model, self.tokenizer, self.terms, self.words = model.eval(), tokenizer, terms, words
        self.stop_words = frozenset(stop_words)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], *, query: bool = False) -> Representations:
        """Return the vectors of queries or of passages, one forward pass each."""
        device = next(self.model.parameters()).device
        dense, rows = [], []
        for text in texts:
            prompt = self.prompt(text, query=query)
            ids = self.tokenizer(prompt, add_special_tokens=False, return_tensors="pt")["input_ids"].to(device)
            out = self.model(input_ids=ids, output_hidden_states=True)
            hidden = out.hidden_states[-1][0, -1].float()
            dense.append((hidden / hidden.norm().clamp(min=1e-12)).cpu().numpy())
            rows.append(self._sparse(text, out.logits[0, -1].float().cpu().numpy()))
        width, dim = self.model.get_output_embeddings().weight.shape
        starts = np.cumsum([0, *(len(tokens) for tokens, _ in rows)])
        columns = np.concatenate([np.zeros(0, np.int64), *(tokens for tokens, _ in rows)])
        values = np.concatenate([np.zeros(0), *(weights for _, weights in rows)])
        sparse = csr_array((values, columns, starts), shape=(len(texts), width))
        return Representations(np.array(dense, np.float32).reshape(len(texts), dim), sparse)

    def prompt(self, text: str, *, query: bool = False) -> str:
        """Return what the model reads, up to where its one word begins."""
        kind = "query" if query else "passage"
        asked = f'{kind.title()}: "{" ".join(text.split()[: self.words])}". {ASK.format(kind=kind)}'
        if not getattr(self.tokenizer, "chat_template", None):
            return f"{asked}\n{BEGUN}"
        return (
            self.tokenizer.apply_chat_template(
                [{"role": "user", "content": asked}], tokenize=False, add_generation_prompt=True
            )
            + BEGUN
        )

    def allowed_tokens(self, text: str) -> np.ndarray:
        """Return the tokens that a sparse vector of ``text`` may hold, ascending."""
        found = [
            word for word in _WORD.findall(" ".join(text.lower().split()[: self.words])) if word not in self.stop_words
        ]
        ids = [self.tokenizer.encode(f" {word}", add_special_tokens=False) for word in dict.fromkeys(found)]
        return np.unique(np.array([token for word in ids for token in word], np.int64))

    def _sparse(self, text: str, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        tokens = self.allowed_tokens(text)
        weights = np.log1p(np.maximum(logits[tokens], 0.0))
        kept = np.sort(np.argsort(-weights, kind="stable")[: self.terms])
        kept = kept[weights[kept] > 0]
        return tokens[kept], weights[kept]


def hybrid_scores(query: Representations, documents: Representations, weight: float = 0.5) -> np.ndarray:
    """Return scores float64 [queries, documents]; ``weight`` 1 is the dense part alone, 0 the sparse."""
    if not 0 <= weight <= 1:
        raise UsageError(f"weight must be from 0 to 1, got {weight}")
    dense = (query.dense @ documents.dense.T).astype(np.float64)
    sparse = (query.sparse @ documents.sparse.T).toarray()
    parts = [np.array([to_unit_interval(row) for row in part]).reshape(part.shape) for part in (dense, sparse)]
    return weight * parts[0] + (1 - weight) * parts[1]


@register_model_strategy(
    "promptreps",
    area="retrieve",
    title="PromptReps: Prompting Large Language Models to Generate Dense and "
    "Sparse Representations for Zero-Shot Document Retrieval",
)
def promptreps(
    model: Judge | Ranker,
    lists: Sequence[CandidateList],
    generator: np.random.Generator,
    *,
    weight: float = 0.5,
    terms: int = 128,
    words: int = 300,
) -> Iterator[Ordered]:
    """Yield each list by the hybrid score of its documents; a document of several lists is represented once.

    Args:
        model: The causal language model, as a ranker or as a judge.
        lists: The candidates of each query.
        generator: It is not used.
        weight: The weight of the dense part, from 0 to 1.
        terms: The most tokens that a sparse vector keeps, 1 or more.
        words: The most words of a text that are shown, 1 or more.

    Raises:
        UsageError: For a model of another kind, and for a number out of its range.
    """
    causal = causal_of(model, "promptreps")
    reps = PromptReps(causal.module, causal.tokenizer, terms=terms, words=words)
    if not 0 <= weight <= 1:
        raise UsageError(f"weight must be from 0 to 1, got {weight}")
    known: dict[str, Representations] = {}
    for each in lists:
        new = [text for text in dict.fromkeys(each.texts) if text not in known]
        known.update((text, reps.encode([text])) for text in new)
        if not each.texts:
            yield Ordered(Standing(()))
            continue
        own = [known[text] for text in each.texts]
        documents = Representations(np.concatenate([one.dense for one in own]), vstack([one.sparse for one in own]))
        scores = hybrid_scores(reps.encode([each.query], query=True), documents, weight)[0].tolist()
        yield Ordered(Standing(by_score(scores), scores), Usage(calls=len(new) + 1))
