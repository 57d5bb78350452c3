"""How a tuned language model answers by written text: what its folder keeps, and how it orders documents."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from string import Template
from typing import Any

import numpy as np

from lorank.errors import UsageError
from lorank.progress import ProgressCallback
from lorank.ranking.judges.causal import CausalJudge
from lorank.ranking.judges.prompts import Prompts
from lorank.ranking.policies.best_of import BestOfJudge
from lorank.ranking.scorers.causal import CausalRanker
from lorank.ranking.strategies.reranking import rerank

STRATEGY_OF = {
    "setwise": "setwise",
    "listwise": "sliding",
    "groupwise": "grouprank",
    "exclude": "iranker",
    "selection": "dynamicrag",
    "pointwise": "pointwise",
}
"""The strategy that puts each kind of question."""


@dataclass(frozen=True)
class WrittenPolicy:
    """A policy of written replies, as ``lorank.json`` keeps it under ``policy``.

    Attributes:
        question: The kind of question that the model was trained to answer.
        size: How many documents a question showed in training.
        words: How many words of each.
        max_tokens: The most tokens of a reply.
        thinking: Whether a thought is asked for.
        template: The text of the question's prompt, where it is none of lorank's own.
        best_of: How many replies of the model without its adapter the adapter chooses from; 0 writes one with it.
        share: The share of tokens at which a step of them begins.
        aggregate: How the scores of steps become that of a reply.
        temperature: At which they are drawn.
    """

    question: str
    size: int
    words: int
    max_tokens: int
    thinking: bool
    template: str | None = None
    best_of: int = 0
    share: float = 0.1
    aggregate: str = "min"
    temperature: float = 1.0

    @property
    def strategy(self) -> str:
        """The strategy by which it orders documents."""
        return STRATEGY_OF[self.question]

    @property
    def options(self) -> dict[str, Any]:
        """The options of that strategy."""
        return {"size": self.size} if self.question in ("setwise", "groupwise") else {}

    def judge(self, ranker: Any, name: str | None = None) -> CausalJudge:
        """Return the judge that the ranker's model is; a written score counts as the expected one at its place.

        Args:
            ranker: A causal ranker.
            name: What tells its answers from others in a cache on disk.

        Raises:
            UsageError: For a ranker that is no language model.
        """
        if not isinstance(ranker, CausalRanker):
            raise UsageError(f"a policy of written replies needs a causal language model, not a {ranker.kind}")
        prompts = Prompts.load(words=self.words, thinking=self.thinking)
        if self.template is not None:
            prompts = replace(prompts, templates={**prompts.templates, self.question: Template(self.template)})
        given: dict[str, Any] = {
            "name": name,
            "prompts": prompts,
            "pointwise": "expected",
            "max_tokens": self.max_tokens,
            "written": (self.question,),
        }
        if not self.best_of:
            return CausalJudge(ranker.module, ranker.tokenizer, **given)
        return BestOfJudge(
            ranker.module,
            ranker.tokenizer,
            opened=ranker.reference,
            samples=self.best_of,
            share=self.share,
            aggregate=self.aggregate,
            temperature=self.temperature,
            **given,
        )

    def score_pairs(
        self,
        ranker: Any,
        queries: Sequence[str],
        documents: Sequence[str],
        pairs: np.ndarray,
        on_progress: ProgressCallback | None = None,
    ) -> np.ndarray:
        """Return scores float32 [n] of pairs: those of one query are ordered by the policy, the best scores highest.

        Args:
            ranker: The causal ranker.
            queries: The texts of the queries.
            documents: The texts of the documents.
            pairs: The int64 [n, 2] positions in ``queries`` and ``documents``.
            on_progress: It receives the number of queries that are done and their total.
        """
        judge, scores = self.judge(ranker), np.zeros(len(pairs), np.float32)
        asked = np.unique(pairs[:, 0])
        for done, query in enumerate(asked, start=1):
            rows = np.flatnonzero(pairs[:, 0] == query)
            texts = [documents[i] for i in pairs[rows, 1]]
            found = rerank(queries[query], texts, judge, self.strategy, top=len(texts), **self.options)
            scores[rows[list(found.order)]] = np.arange(len(rows), 0, -1, dtype=np.float32)
            if on_progress is not None:
                on_progress(done, len(asked))
        return scores

    def to_dict(self) -> dict[str, Any]:
        """Return it JSON-ready."""
        return asdict(self)

    @classmethod
    def of(cls, saved: dict[str, Any] | None) -> "WrittenPolicy | None":
        """Return what ``to_dict`` gave; None where nothing was kept."""
        return None if saved is None else cls(**saved)
