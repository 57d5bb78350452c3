r"""Reply ranker: the documents are replies of one token to a prompt, and a score is the log-probability of a reply.

    s(q, d) = \log P(d | q),   the first token that the model writes after the prompt q

One pass a prompt scores all its replies. This is how judges are taught: the prompt is the question that a judge is
asked, its replies are the answers it could give, and any loss over lists says which of them is right (see
``lorank.ranking.judges.lessons``). The tuned model then answers as a ``CausalJudge``.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from lorank.errors import UsageError
from lorank.progress import ProgressCallback
from lorank.ranking.scorers.batching import batches_by_length
from lorank.ranking.scorers.causal import CausalRanker
from lorank.ranking.scorers.causal_batches import pad_left
from lorank.ranking.scorers.causal_prompt import Prompt, answer_token, user_turn
from lorank.ranking.scorers.pair_inputs import PairInputs, constant
from lorank.ranking.scorers.precision import Dtype
from lorank.ranking.scorers.ranker import Documents
from lorank.ranking.scorers.scoring_mode import scoring
from lorank.ranking.scorers.text_ranker import Truncation
from lorank.ranking.scorers.texts import checked_pairs, checked_texts
from lorank.ranking.scorers.tokens import Span, TokenTable, interleave, tokenize


class ReplyRanker(CausalRanker):
    """Score one-token replies to prompts by a causal language model.

    Args:
        base: As for ``CausalRanker``.
        chat: As for ``CausalRanker``.
        max_length: Tokens of a prompt, template included; longer ones are refused, for their end is the question.
        seed: Not used: a language model brings every weight.
        dtype: Format of scoring.
        token_budget: Tokens of one scoring batch.
    """

    kind: ClassVar[str] = "replies"

    def __init__(
        self,
        base: str | Path,
        *,
        chat: str = "auto",
        max_length: int | None = None,
        seed: int = 0,
        dtype: Dtype = "float32",
        token_budget: int | None = None,
    ) -> None:
        super().__init__(
            base, view="log-ratio", chat=chat, max_length=max_length, seed=seed, dtype=dtype, token_budget=token_budget
        )
        self.view = "replies"  # type: ignore[assignment]
        self.score_scale = "log-probability"  # type: ignore[misc]
        text = user_turn(self.tokenizer, "$query$documents", self.with_template)
        between = Prompt.of(self.tokenizer, text, self.with_template)
        self.template = Prompt(between.before, (), between.after, between.spaced_query)  # type: ignore[assignment]

    def prepare(self, queries: Sequence[str], documents: Documents) -> PairInputs:
        """Tokenise the prompts; look up the token of each reply."""
        prompts = tokenize(
            self.tokenizer, queries, self.room, prefix=" " if self.template.spaced_query else "", what="query"
        )
        if prompts.truncated:
            longest = int(prompts.lengths.max())
            raise UsageError(
                f"a prompt has {longest} tokens, more than the {self.room} that fit; show fewer documents "
                "or fewer words of each, or raise max_length"
            )
        documents = checked_texts(documents, "reply")
        known = {reply: answer_token(self.tokenizer, reply, self.with_template) for reply in dict.fromkeys(documents)}
        ids = np.array([known[reply] for reply in documents], np.int32)
        return PairInputs(prompts, TokenTable(ids, np.arange(len(ids) + 1), 1))

    def forward(self, inputs: PairInputs, queries: Tensor, documents: Tensor, mask: Tensor) -> Tensor:
        """Return log-probabilities [batch, list]; each prompt of the grid is read once.

        Args:
            inputs: The prompts and replies that ``prepare`` has tokenised.
            queries: The int64 [batch] positions of the prompts.
            documents: The int64 [batch, list] positions of the replies.
            mask: The bool [batch, list] grid, True where there is a reply.
        """
        inside = mask.cpu().numpy()
        used, at = np.unique(queries.cpu().numpy(), return_inverse=True)
        tokens = np.zeros(inside.shape, np.int64)
        tokens[inside] = inputs.documents.ids[documents.cpu().numpy()[inside]]
        rows = self.log_probabilities(inputs, used)[torch.from_numpy(at.reshape(-1)).to(self.device)]
        return rows.gather(1, torch.from_numpy(tokens).to(self.device)).masked_fill(~mask.to(self.device), 0.0)

    def log_probabilities(self, inputs: PairInputs, prompts: np.ndarray) -> Tensor:
        """Return float32 log-probabilities [prompts, vocabulary] of the first token of the reply."""
        spans = Span(prompts, np.zeros(len(prompts), np.int64), inputs.queries.lengths[prompts])
        batch = interleave(
            [constant(self.template.before), (inputs.queries, spans, 0), constant(self.template.after)], len(prompts)
        )
        given = pad_left(batch, self.tokenizer.pad_token_id, self.device)
        return self.module(**given, logits_to_keep=1, use_cache=False).logits[:, -1].float().log_softmax(1)

    def score_pairs(
        self,
        queries: Sequence[str],
        documents: Documents,
        pairs: np.ndarray,
        on_progress: ProgressCallback | None = None,
    ) -> np.ndarray:
        """Return log-probabilities of the pairs, float32 [n]; each prompt is read once.

        Args:
            queries: The texts of the prompts.
            documents: The texts of the replies.
            pairs: The int64 [n, 2] positions in ``queries`` and ``documents``, one row per pair.
            on_progress: It receives the number of prompts that are read and their total.
        """
        pairs = checked_pairs(queries, documents, pairs)
        if not len(pairs):
            return np.zeros(0, np.float32)
        used, at = np.unique(pairs[:, 0], return_inverse=True)
        replies, reply_at = np.unique(pairs[:, 1], return_inverse=True)
        inputs = self.prepare([queries[i] for i in used], [documents[i] for i in replies])
        scores, done, at, reply_at = np.zeros(len(pairs), np.float32), 0, at.reshape(-1), reply_at.reshape(-1)
        dtype, lengths = self.scoring_dtype(), inputs.queries.lengths + self.template.cost
        with scoring(self.module), torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not torch.float32):
            for rows in batches_by_length(lengths, self.scoring_budget(), inputs.queries.keys):
                logs, mine = self.log_probabilities(inputs, rows).cpu().numpy(), np.isin(at, rows)
                place = np.zeros(len(used), np.int64)
                place[rows] = np.arange(len(rows))
                scores[mine] = logs[place[at[mine]], inputs.documents.ids[reply_at[mine]]]
                done += len(rows)
                if on_progress is not None:
                    on_progress(done, len(used))
        return scores

    def truncation(self, queries: Sequence[str], documents: Sequence[str]) -> Truncation:
        """Count nothing: replies are one token, and a prompt that does not fit is refused."""
        return Truncation(len(documents), 0, 1, 1)

    def options(self) -> dict[str, Any]:
        """Return the constructor's further arguments."""
        return {"chat": self.chat, "max_length": self.max_length, "seed": self.seed, "dtype": self.dtype}

    def probe(self) -> np.ndarray:
        """Return float32 scores of a few fixed replies, in float32 whatever ``dtype`` says."""
        asked, self.dtype = self.dtype, "float32"
        words = [token for token in ("A", "B", "0", "1") if self._is_reply(token)]
        try:
            return np.concatenate([self.score(prompt, words) for prompt in ("Is it?", "Which one of them?")])
        finally:
            self.dtype = asked

    def _is_reply(self, word: str) -> bool:
        try:
            answer_token(self.tokenizer, word, self.with_template)
        except UsageError:
            return False
        return True
