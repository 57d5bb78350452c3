r"""Causal ranker: a language model reads query and document, and one of four views of it is the score.

    yes-no      logit(yes) - logit(no) where the reply begins, or logit(yes) alone
    expected    \sum_s s softmax(logit(s)), s = 0 .. 10, where the reply begins
    head        w^T h of the end of the answer, h the last layer: a reward model
    log-ratio   \beta (\log \pi(d | q) - \log \pi_ref(d | q)), the document being the reply to the query; pi_ref is the
                model as it was before it was adapted, which for a low-rank adapter is the model with it switched off

The first asks as the model was made to be asked: by the prompt that its folder brings
(`lorank.ranking.scorers.own_prompt`) or its family has published (`lorank.ranking.scorers.families`). A model without
either, and the second view, is asked with the prompt that ``CausalJudge`` asks, chat template applied, so that a tuned
ranker is a tuned judge. The last two read the document as the assistant's answer. Before training a head scores 0, and
so does every log-ratio.

Papers: Nogueira, Jiang, Pradeep & Lin 2020, Document Ranking with a Pretrained Sequence-to-Sequence Model (yes and no
as tokens); Rafailov et al. 2023, Direct Preference Optimization (log-ratio); Cai et al. 2025, ERank (expected score).

*Deviations*: the pieces of a prompt are tokenised apart from the texts, so that each text is tokenised once. Scoring
computes what the prompts of a list begin with once (`lorank.ranking.scorers.shared_prefix`).
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from lorank.errors import LorankError, UsageError
from lorank.progress import ProgressCallback
from lorank.ranking.scorers.asked_prompt import Asked, published_prompt, single_tokens
from lorank.ranking.scorers.causal_batches import Prompts, list_batches, whole_batches
from lorank.ranking.scorers.causal_pretrained import applies_chat, load_causal
from lorank.ranking.scorers.causal_prompt import Prompt, question_text
from lorank.ranking.scorers.causal_views import READERS
from lorank.ranking.scorers.families import NONE, OWN
from lorank.ranking.scorers.labels import Label
from lorank.ranking.scorers.pair_inputs import PairInputs, PairSpans, gather_passages, windows_of_pairs
from lorank.ranking.scorers.pairs import GridPairs, used_texts
from lorank.ranking.scorers.passage_gradients import best_passages, mean_passages
from lorank.ranking.scorers.precision import Dtype
from lorank.ranking.scorers.pretrained import longest_input
from lorank.ranking.scorers.ranker import Documents
from lorank.ranking.scorers.scoring_mode import scoring
from lorank.ranking.scorers.sentence_files import SentenceFiles
from lorank.ranking.scorers.shared_prefix import reuse_refusal
from lorank.ranking.scorers.text_ranker import Long, TextRanker, Truncation
from lorank.ranking.scorers.tokens import Span, share_room

logger = logging.getLogger("lorank")

View = Literal["yes-no", "expected", "head", "log-ratio"]
SCALES = {
    "yes-no": "logit",
    "expected": "expected score from 0 to 10",
    "head": "logit",
    "log-ratio": "beta times the log-ratio to the reference",
}


class CausalRanker(TextRanker[PairInputs]):
    """Score by a causal language model; see the module for the views.

    Args:
        base: ``smollm2``, a ``.gguf`` file, a folder, or a Hub name.
        view: ``yes-no``, ``expected``, ``head`` or ``log-ratio``.
        beta: Scale of the log-ratio, above 0.
        prompt: A text with $query and $documents, for the views that ask; None is the model's own, its family's, or
            the packaged one, in this order.
        answers: The two words of ``yes-no``, one token each; None are those of the prompt, Yes and No for the packaged.
        family: The name of a published prompt (`lorank.ranking.scorers.families`), "own" for that of the folder,
            "none" for neither; None lets the folder decide.
        instruction: What stands in a family's prompt in place of its own instruction, for families that have one.
        label: Which label of a ``head`` of several is the score, by number or name.
        chat: Whether prompts go through the chat template: ``auto`` where there is one, ``on``, ``off``.
        max_length: Tokens of prompt, query and document together; the longer text gives way. At most what the model
            takes in, by default up to 1,024.
        seed: Draws a head that the checkpoint does not bring; ``head="random"`` draws it, "zero" starts it at 0.
        dtype: Format of scoring, as in ``TextRanker``.
        token_budget: Tokens of one scoring batch.
        long: What happens to a document that is too long, as in ``Long``, in training too.
        overlap: Tokens that neighbouring passages share; None is an eighth of ``max_length``.
        reuse_prefix: Whether scoring computes what the prompts of a list begin with once, where the model can go on
            from it (`lorank.ranking.scorers.shared_prefix`).

    Raises:
        UsageError: For a checkpoint whose head is not the one that is read, or a chat model without its template.

    >>> CausalRanker("smollm2").score("sorting", ["how to sort a list"])    # doctest: +SKIP
    array([...], dtype=float32)
    """

    kind: ClassVar[str] = "causal"
    files: SentenceFiles
    """What the folder's sentence-transformers files say, where its own prompt was looked for."""

    def __init__(
        self,
        base: str | Path,
        *,
        view: View = "yes-no",
        beta: float = 0.1,
        prompt: str | None = None,
        answers: Sequence[str] | None = None,
        chat: str = "auto",
        max_length: int | None = None,
        seed: int = 0,
        head: Literal["zero", "random"] = "zero",
        dtype: Dtype = "float32",
        token_budget: int | None = None,
        family: str | None = None,
        instruction: str | None = None,
        label: Label | None = None,
        long: Long = "truncate",
        overlap: int | None = None,
        reuse_prefix: bool = True,
    ) -> None:
        if view not in get_args(View):
            raise UsageError(f"view={view!r}: choose one of {', '.join(get_args(View))}")
        if not beta > 0:
            raise UsageError(f"beta={beta} must be above 0")
        if dtype not in get_args(Dtype):
            raise UsageError(f"dtype {dtype!r}: choose one of {', '.join(get_args(Dtype))}")
        if answers is not None and (isinstance(answers, str) or len(answers) != 2):
            raise UsageError(f"answers={answers!r} must be two words: relevant, and not")
        loaded = load_causal(base, "head" if view == "head" else "lm", seed=seed, head=head, label=label)
        self.base, self.new_parameters = loaded.name, loaded.new
        self.module, self.tokenizer = loaded.module, loaded.tokenizer
        if view == "head" and not hasattr(self.module, "score"):
            raise UsageError(f"{type(self.module).__name__} has no layer called score to read; choose another view")
        self.view, self.beta, self.prompt = view, float(beta), prompt
        self.answers = None if answers is None else tuple(answers)
        self.instruction, self.label = instruction, loaded.label
        self.chat, self.seed, self.head = chat, seed, head
        self.token_budget = token_budget
        self.score_scale = SCALES[view]  # type: ignore[misc]
        refusal = reuse_refusal(self.module)
        self.reuses_prefix = reuse_prefix and refusal is None
        if reuse_prefix and refusal is not None:
            logger.info("%s computes every prompt of a list whole: %s", self.base, refusal)
        asked = self._asked(loaded.source, Path(base).name, family)
        self.family, self.template = asked.family, asked.prompt  # type: ignore[assignment]
        self.answer_ids, self.answer_values = list(asked.ids), list(asked.values)
        self.source, self.longest = loaded.source, longest_input(self.tokenizer, self.module.config, self.module)
        usual = min(self.longest, asked.max_length or 1024)
        self.read_with(max_length=max_length or usual, long=long, overlap=overlap, dtype=dtype)

    def read_with(
        self,
        *,
        max_length: int | None = None,
        long: Long | None = None,
        overlap: int | None = None,
        dtype: Dtype | None = None,
    ) -> None:
        """Set how texts are read from now on, as ``TextRanker.read_with``; the prompt needs room too.

        Args:
            max_length: The most tokens of prompt, query and document.
            long: It says what happens to a document that is too long.
            overlap: The number of tokens that neighbouring passages share.
            dtype: The number format of scoring.

        Raises:
            UsageError: If a setting is out of its range.
        """
        least = self.template.cost + 8
        if max_length is not None and not least <= max_length <= self.longest:
            raise UsageError(
                f"max_length={max_length} must be from {least}, which the prompt needs, to {self.longest}, what "
                f"{self.source} can take in"
            )
        super().read_with(max_length=max_length, long=long, overlap=overlap, dtype=dtype)

    def _asked(self, source: str, file: str, family: str | None) -> Asked:
        """Return what is asked and which tokens answer; see the module for whose prompt it is."""
        if self.prompt is not None and self.view not in ("yes-no", "expected"):
            raise UsageError(f"view={self.view!r} reads the document as the answer and asks nothing; leave out prompt")
        published = published_prompt(self, source, file, family)
        if self.instruction is not None and (published is None or "$instruction" not in published.text):
            raise UsageError(f"instruction={self.instruction!r}: the prompt of {source} has no place for one")
        if published is not None:
            self.with_template = True
            return published
        self.with_template = applies_chat(self.tokenizer, self.chat, source)
        if self.view not in ("yes-no", "expected"):
            return Asked(Prompt.answer(self.tokenizer, self.with_template), NONE)
        if self.view == "yes-no" and self.prompt is None and family is None:
            logger.warning(
                "%s brings no prompt for ranking and is of no family that lorank knows: it is asked in lorank's own "
                "words and answers Yes or No; give prompt=... and answers=..., or family=..., if it was made for them",
                source,
            )
        prompt = Prompt.question(self.tokenizer, question_text(self.view, self.prompt), self.with_template)
        words = {"yes-no": self.answers or ("Yes", "No"), "expected": tuple(map(str, range(11)))}[self.view]
        tokens = single_tokens(self.tokenizer, words, self.with_template, skip=self.view == "expected")
        return Asked(prompt, NONE, tuple(tokens.values()), tuple(tokens))

    @property
    def room(self) -> int:
        """Tokens of query and document together, beside those of the prompt."""
        return self.max_length - self.template.cost

    def prepare(self, queries: Sequence[str], documents: Documents) -> PairInputs:
        """Tokenise queries and documents once, apart from each other and from the prompt."""
        q, q_ends = self.template.queries(self.tokenizer, queries, self.room)
        d, d_ends = self.template.documents(self.tokenizer, documents, self.room)
        return PairInputs(q, d, q_ends, d_ends)

    def forward(self, inputs: PairInputs, queries: Tensor, documents: Tensor, mask: Tensor) -> Tensor:
        """Return scores [batch, list]; a pair that stands in several places is read once.

        Args:
            inputs: The texts that ``prepare`` has tokenised.
            queries: The int64 [batch] positions of the queries.
            documents: The int64 [batch, list] positions of the documents.
            mask: The bool [batch, list] grid, True where there is a document.
        """
        asked = GridPairs.of(queries, documents, mask)
        if not len(asked):
            return torch.zeros(mask.shape, device=self.device)
        return asked.grid(self.passage_values(inputs, asked.pairs), mask)

    def passage_values(self, inputs: PairInputs, pairs: np.ndarray) -> Tensor:
        """Return float32 values [pairs] with their gradient, long documents read as ``long`` says."""
        if self.long not in ("max", "mean"):
            return self.read_values(inputs, self.spans(inputs, pairs))
        spans = self.passage_spans(inputs, pairs)
        if self.long == "mean":
            return mean_passages(self.read_values(inputs, spans), spans.owner)
        if len(spans) > len(pairs):
            spans = spans[best_passages(self.view_scores(inputs, spans), spans.owner)]
            torch.clear_autocast_cache()  # weights cast in there know no gradient
        return self.read_values(inputs, spans)

    def read_values(self, inputs: PairInputs, spans: PairSpans) -> Tensor:
        """Return float32 values [spans] with their gradient; of a log-ratio less the reference's."""
        if self.view != "log-ratio":
            return self.read(inputs, spans)
        with self.reference(), scoring(self.module):
            before = self.read(inputs, spans)
        torch.clear_autocast_cache()  # weights cast in there know no gradient
        return self.read(inputs, spans) - before.clone()

    def spans(self, inputs: PairInputs, pairs: np.ndarray) -> PairSpans:
        """Return what is read of each pair; the end of what does not fit is cut."""
        q, d = share_room(inputs.queries.lengths[pairs[:, 0]], inputs.documents.lengths[pairs[:, 1]], self.room)
        return PairSpans(
            Span(pairs[:, 0], np.zeros_like(q), q), Span(pairs[:, 1], np.zeros_like(d), d), np.arange(len(pairs))
        )

    def passage_spans(self, inputs: PairInputs, pairs: np.ndarray) -> PairSpans:
        """Return the passages of each pair: the query with each window of the document that fills the room."""
        return windows_of_pairs(
            self.spans(inputs, pairs), inputs.documents.lengths[pairs[:, 1]], self.room, self.overlap
        )

    def prompts(self, inputs: PairInputs, spans: PairSpans) -> Prompts:
        """Return the prompts of pairs; of a log-ratio the answer is computed for each alone, and what predicts it."""
        rest = self.answer_tokens(spans) if self.view in ("log-ratio", "likelihood") else np.zeros(len(spans), np.int64)
        return Prompts(self.template, inputs, spans, rest + 1, self.tokenizer.pad_token_id, self.device)

    def answer_tokens(self, spans: PairSpans) -> np.ndarray:
        """Return the tokens of each document as a reply, its end included, int64 [pairs]."""
        return spans.document.length + len(self.template.after)

    def read(self, inputs: PairInputs, spans: PairSpans) -> Tensor:
        """Return float32 values [pairs] of the view; of a log-ratio the policy's part, beta log pi."""
        prompts = self.prompts(inputs, spans)
        return self.values(prompts.padded(prompts.assemble(np.arange(len(spans)))), spans)

    def values(self, given: dict[str, Any], spans: PairSpans) -> Tensor:
        """Return float32 values [pairs] of the view from the model's arguments for the prompts of ``spans``."""
        return READERS[self.view](self, given, torch.from_numpy(self.answer_tokens(spans)).to(self.device))

    def score_pairs(
        self,
        queries: Sequence[str],
        documents: Documents,
        pairs: np.ndarray,
        on_progress: ProgressCallback | None = None,
    ) -> np.ndarray:
        """Return scores of the pairs, float32 [n]; each text is tokenised once, each pair read once.

        Args:
            queries: The texts of the queries.
            documents: The texts of the documents.
            pairs: The int64 [n, 2] positions in ``queries`` and ``documents``, one row per pair.
            on_progress: It receives the number of pairs that are read and their total.
        """
        texts, read, at = used_texts(queries, documents, pairs)
        if not len(at):
            return np.zeros(0, np.float32)
        inputs = self.prepare(texts, read)
        self.report_truncation(inputs.truncation(np.unique(at, axis=0), self.room))
        return self.score_prepared(inputs, at, on_progress)

    def score_prepared(
        self, inputs: PairInputs, pairs: np.ndarray, on_progress: ProgressCallback | None = None
    ) -> np.ndarray:
        """Return scores float32 [n] of ``pairs`` int64 [n, 2] of positions in what ``prepare`` has tokenised."""
        unique, back = np.unique(pairs, axis=0, return_inverse=True)
        split = self.long in ("max", "mean")
        spans = (self.passage_spans if split else self.spans)(inputs, unique)
        scores = self.view_scores(inputs, spans, on_progress)
        if split:
            scores = gather_passages(scores, spans.owner, self.long)
        return scores[back.reshape(-1)]

    def view_scores(
        self, inputs: PairInputs, spans: PairSpans, on_progress: ProgressCallback | None = None
    ) -> np.ndarray:
        """Return float32 scores [spans] without a gradient; of a log-ratio less the reference's."""
        scores = self.score_spans(inputs, spans, on_progress)
        if self.view == "log-ratio":
            with self.reference():
                scores = scores - self.score_spans(inputs, spans, None)
        return scores

    def score_spans(self, inputs: PairInputs, spans: PairSpans, on_progress: ProgressCallback | None) -> np.ndarray:
        """Return float32 values [pairs] of the view, batched by length, the beginning of a list computed once."""
        values, done, dtype = np.zeros(len(spans), np.float32), 0, self.scoring_dtype()
        prompts, budget = self.prompts(inputs, spans), self.scoring_budget()
        batches = (
            list_batches(prompts, self.module.base_model, budget)
            if self.reuses_prefix
            else whole_batches(prompts, np.arange(len(spans)), budget)
        )
        with scoring(self.module), torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not torch.float32):
            for rows, given in batches:
                values[rows] = self.values(given, spans[rows]).cpu().numpy()
                done += len(rows)
                if on_progress is not None:
                    on_progress(done, len(spans))
        return values

    def log_likelihoods(
        self, queries: Sequence[str], documents: Sequence[str], pairs: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return log pi(d | q) of the pairs, float32 [n], and the tokens of each reply, its end included, int64 [n].

        For the view ``log-ratio``; open ``self.reference()`` around it for the reference's.
        """
        inputs = self.prepare(queries, documents)
        spans = self.spans(inputs, pairs)
        return self.score_spans(inputs, spans, None) / self.beta, self.answer_tokens(spans)

    def truncation(self, queries: Sequence[str], documents: Sequence[str]) -> Truncation:
        """Count the documents that do not fit beside the longest of ``queries``."""
        inputs = self.prepare(queries or [""], documents)
        return inputs.truncation(inputs.with_longest_query(), self.room)

    def options(self) -> dict[str, Any]:
        """Return the constructor's further arguments."""
        return {
            "view": self.view,
            "beta": self.beta,
            "prompt": self.prompt,
            "answers": None if self.answers is None else list(self.answers),
            "family": self.family,
            "instruction": self.instruction,
            "label": None if self.label is None else self.label.index,
            "chat": self.chat,
            "max_length": self.max_length,
            "seed": self.seed,
            "head": self.head,
            "dtype": self.dtype,
            "long": self.long,
            "overlap": self.overlap,
        }

    def save(self, folder: str | Path) -> None:
        """Write the model folder, re-open it, and compare scores; a log-ratio has no folder without its adapter."""
        if self.view == "log-ratio":
            raise LorankError(
                "a log-ratio is relative to the model before it was adapted, which one folder of weights "
                "does not hold; train a low-rank adapter and save that, or use view='head'"
            )
        super().save(folder)

    def probe(self) -> np.ndarray:
        """Return float32 scores of a few fixed pairs; of a log-ratio the policy's part."""
        again, view = self.reference, self.view
        if view != "log-ratio":
            return super().probe()
        try:
            self.view = "likelihood"  # type: ignore[assignment]
            return super().probe()
        finally:
            self.view, self.reference = view, again

    def write_peer_files(self, folder: Path) -> None:
        """Write the files that say how a model with a prompt of its own is asked.

        Without one there is nothing to write: the folder is already what transformers and vLLM open.
        """
        if self.family == OWN:
            self.files.write(folder)
