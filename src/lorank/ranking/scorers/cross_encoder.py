"""Cross-encoder: query and document are read together, and the score is the logit of a one-label head.

Equation: s(q, d) = head(encoder([CLS] q [SEP] d [SEP])), for any transformers model that has a sequence
classification class: an encoder, or a decoder saved with such a head, which is read at the last token and asked by the
prompt of its folder or family (`lorank.ranking.scorers.families`). Of several labels one is the score
(`lorank.ranking.scorers.labels`). A head that the checkpoint does not bring starts with its final projection at zero:
every score starts at exactly 0 and training moves away from there, not from noise.

Paper: Nogueira & Cho 2019, Passage Re-ranking with BERT, arXiv:1901.04085.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from lorank.errors import UsageError
from lorank.progress import ProgressCallback
from lorank.ranking.scorers.batching import batches_by_length
from lorank.ranking.scorers.causal_prompt import Prompt
from lorank.ranking.scorers.families import NONE, OWN, Family, find_family, recognise
from lorank.ranking.scorers.folders import write_json
from lorank.ranking.scorers.labels import Label
from lorank.ranking.scorers.own_prompt import OwnPrompt, pair_prompt
from lorank.ranking.scorers.packed import PackedEncoder, can_pack
from lorank.ranking.scorers.pair_inputs import PairInputs, PairSpans, gather_passages, pair_parts, windows_of_pairs
from lorank.ranking.scorers.pairs import GridPairs, used_texts
from lorank.ranking.scorers.passage_gradients import best_passages, mean_passages
from lorank.ranking.scorers.precision import Dtype
from lorank.ranking.scorers.pretrained import Pretrained, is_decoder, load_pretrained, longest_input, with_padding
from lorank.ranking.scorers.ranker import Documents
from lorank.ranking.scorers.scoring_mode import scoring
from lorank.ranking.scorers.sentence_files import SentenceFiles
from lorank.ranking.scorers.text_ranker import Long, TextRanker, Truncation
from lorank.ranking.scorers.tokens import Ragged, Span, interleave, share_room, tokenize

IDENTITY = "torch.nn.modules.linear.Identity"

FIRST_TOKEN_HEADS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "BertForSequenceClassification": lambda model, first: model.classifier(
        model.dropout(model.bert.pooler(first.unsqueeze(1)))
    ),
    "RobertaForSequenceClassification": lambda model, first: model.classifier(first.unsqueeze(1)),
    "XLMRobertaForSequenceClassification": lambda model, first: model.classifier(first.unsqueeze(1)),
}
"""Model class -> its head applied to the first tokens [sequences, dim]; these run packed."""


class CrossEncoder(TextRanker[PairInputs]):
    """Score by reading query and document together; scores are logits, float32.

    ``base`` is a packaged name, a folder, or a Hub name. ``max_length`` bounds query and document together
    (default: what the model takes in, at most 512). The longer text gives way, which for a query of at most
    half the room means that the document alone is cut. ``seed`` draws what the checkpoint does not bring;
    ``head="random"`` draws the final projection too. ``label`` says which label of a classifier of several is the
    score. ``query_prefix`` goes before each query; where it is None the default prompt of the folder's
    sentence-transformers files does. ``family`` names a published prompt for a decoder, "own" the prompt in the folder,
    "none" neither; where it is None the folder decides. For ``dtype`` and ``long`` see ``TextRanker`` and
    ``Long``; training reads a long document as scoring does.

    Args:
        base: A packaged name, a folder, or a name on the Hub.
        max_length: The most tokens of query and document together; None takes what the model allows, at most 512.
        seed: The seed of the parameters that the checkpoint lacks.
        head: The final projection of a new classifier starts at zero (``zero``) or is drawn from ``seed`` (``random``).
        dtype: The number format of scoring; training is always in float32.
        long: It says what happens to a document that is too long.
        overlap: The number of tokens that neighbouring passages share; None is an eighth of ``max_length``.
        token_budget: The most tokens in one scoring batch; None leaves the choice to the ranker.
        label: The label that is the score, of a classifier with several; None where there is no choice.
        query_prefix: The text before each query; None leaves it to the folder.
        family: The name of a published prompt, ``own``, ``none``, or None where the folder decides.

    Raises:
        UsageError: If an option is out of its range, or the base cannot be opened as a classifier.

    >>> CrossEncoder("minilm").score("sorting", ["how to sort a list", "the moon"])    # doctest: +SKIP
    array([0., 0.], dtype=float32)
    """

    kind: ClassVar[str] = "cross-encoder"
    score_scale: ClassVar[str] = "logit"

    def __init__(
        self,
        base: str | Path,
        *,
        max_length: int | None = None,
        seed: int = 0,
        head: Literal["zero", "random"] = "zero",
        dtype: Dtype = "float32",
        long: Long = "truncate",
        overlap: int | None = None,
        token_budget: int | None = None,
        label: Label | None = None,
        query_prefix: str | None = None,
        family: str | None = None,
    ) -> None:
        loaded = load_pretrained(base, "classifier", seed=seed, head=head, label=label)
        files = SentenceFiles.read(loaded.source)
        if any("pooler" not in name for name in loaded.new):  # a new head: how the encoder made vectors is not used
            files = SentenceFiles(loaded.source)
        files.refuse_other_than(("Transformer",), "cross-encoder")
        self.seed, self.head, self.label = seed, head, loaded.label
        self.path_logits: Callable[[Ragged], np.ndarray] | None = None
        self.decodes = is_decoder(loaded.module.config) and hasattr(loaded.module, "score")
        if self.decodes:
            loaded = replace(loaded, tokenizer=with_padding(loaded.tokenizer))
        known, self.prompt = classifier_prompt(files, loaded, family, self.decodes)
        self.family = NONE if known is None else known if isinstance(known, str) else known.name
        self.query_prefix = files.default_prompt if query_prefix is None else query_prefix
        if self.prompt is not None:
            self.query_prefix = ""
        most = longest_input(loaded.tokenizer, loaded.module.config, loaded.module)
        usual = known.max_length or 512 if isinstance(known, Family) else 512
        max_length = max_length or min(most, usual)
        self._open(loaded, max_length=max_length, dtype=dtype, long=long, overlap=overlap, token_budget=token_budget)
        if self.prompt is not None:
            self.template = self.template.around(self.prompt)
        if self.room < 8:
            raise UsageError(
                f"max_length={max_length} leaves no room for query and document beside the {self.template.pair_cost} "
                "tokens of the prompt"
            )

    @property
    def room(self) -> int:
        """Tokens of query and document together, beside those of the prompt."""
        return self.max_length - self.template.pair_cost

    def prepare(self, queries: Sequence[str], documents: Documents) -> PairInputs:
        """Tokenise queries and documents once, apart from each other."""
        if self.prompt is not None:
            q, q_ends = self.prompt.queries(self.tokenizer, queries, self.room)
            d, d_ends = self.prompt.documents(self.tokenizer, documents, self.room)
            return PairInputs(q, d, q_ends, d_ends)
        return PairInputs(
            tokenize(self.tokenizer, queries, self.room, prefix=self.query_prefix, what="query"),
            tokenize(self.tokenizer, documents, self.room),
        )

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
        return asked.grid(self.passage_logits(inputs, asked.pairs), mask)

    def passage_logits(self, inputs: PairInputs, pairs: np.ndarray) -> Tensor:
        """Return float32 logits [pairs] with their gradient, long documents read as ``long`` says."""
        if self.long not in ("max", "mean"):
            return self.read(inputs, self.first_spans(inputs, pairs))
        spans = self.passage_spans(inputs, pairs)
        if self.long == "mean":
            return mean_passages(self.read(inputs, spans), spans.owner)
        if len(spans) > len(pairs):
            path, self.path_logits = self.path_logits, None  # a path's weights are as they were when it was opened
            spans = spans[best_passages(self.score_spans(inputs, spans), spans.owner)]
            self.path_logits = path
            torch.clear_autocast_cache()  # weights cast in there know no gradient
        return self.read(inputs, spans)

    def read(self, inputs: PairInputs, spans: PairSpans) -> Tensor:
        """Return float32 logits [spans] with their gradient."""
        order = np.argsort(-(spans.query.length + spans.document.length), kind="stable")
        batch = self.assemble(inputs, spans[order])
        packed = PackedEncoder(self.module.base_model) if self.can_pack() else None
        return self.logits(batch, packed, torch.float32)[torch.from_numpy(np.argsort(order)).to(self.device)].float()

    def first_spans(self, inputs: PairInputs, pairs: np.ndarray) -> PairSpans:
        """Return what is read of each pair when what does not fit is cut."""
        q, d = inputs.queries.lengths[pairs[:, 0]], inputs.documents.lengths[pairs[:, 1]]
        kept_q, kept_d = share_room(q, d, self.room)
        start_q = q - kept_q if self.template.from_left else np.zeros_like(q)
        start_d = d - kept_d if self.template.from_left else np.zeros_like(d)
        return PairSpans(Span(pairs[:, 0], start_q, kept_q), Span(pairs[:, 1], start_d, kept_d), np.arange(len(pairs)))

    def passage_spans(self, inputs: PairInputs, pairs: np.ndarray) -> PairSpans:
        """Return the passages of each pair: the query with each window of the document that fills the room."""
        first = self.first_spans(inputs, pairs)
        return windows_of_pairs(first, inputs.documents.lengths[pairs[:, 1]], self.room, self.overlap)

    def assemble(self, inputs: PairInputs, spans: PairSpans) -> Ragged:
        """Return the token sequences of the pairs."""
        if self.prompt is not None:
            return interleave(pair_parts(self.prompt, inputs, spans), len(spans))
        return self.template.assemble_pair(inputs.queries, spans.query, inputs.documents, spans.document)

    def can_pack(self) -> bool:
        """Return True where the model runs without padding."""
        return type(self.module).__name__ in FIRST_TOKEN_HEADS and can_pack(self.module.base_model)

    def logits(self, batch: Ragged, packed: PackedEncoder | None, dtype: torch.dtype) -> Tensor:
        """Return float32 logits [sequences]."""
        if packed is not None:
            first = packed(batch, first_only=True).float()
            return self.select_scores(FIRST_TOKEN_HEADS[type(self.module).__name__](self.module, first))
        padded = batch.pad(self.tokenizer.pad_token_id, self.device, with_types=self.takes_types)
        with torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not torch.float32):
            return self.select_scores(self.all_logits(padded, torch.from_numpy(batch.lengths).to(self.device)))

    def all_logits(self, padded: dict[str, Tensor], lengths: Tensor) -> Tensor:
        """Return the logits [sequences, labels] of a padded batch; a decoder is read at the last of ``lengths`` tokens.

        transformers looks for the last token that is no padding, and would stop short of a text that holds it.
        """
        if not self.decodes:
            return self.module(**padded).logits
        last = (lengths - 1).clamp(min=0)  # a pair without a token is read as one token of padding
        mask = padded["attention_mask"] | (torch.arange(padded["attention_mask"].shape[1], device=last.device) == 0)
        hidden = self.module.base_model(**padded | {"attention_mask": mask}, use_cache=False).last_hidden_state
        return self.module.score(hidden[torch.arange(len(last), device=last.device), last])

    def select_scores(self, logits: Tensor) -> Tensor:
        """Return the scores [sequences] of ``logits`` [sequences, labels]."""
        return logits.squeeze(-1).float() if self.label is None else self.label.score(logits.float())

    def score_pairs(
        self,
        queries: Sequence[str],
        documents: Documents,
        pairs: np.ndarray,
        on_progress: ProgressCallback | None = None,
    ) -> np.ndarray:
        """Return logits of the pairs, float32 [n]; each text is tokenised once, each pair read once.

        Args:
            queries: The texts of the queries.
            documents: The texts of the documents.
            pairs: The int64 [n, 2] positions in ``queries`` and ``documents``, one row per pair.
            on_progress: It receives the number of pairs (or passages of pairs) that are read and their total.
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
        """Return logits float32 [n] of ``pairs`` int64 [n, 2] of positions in what ``prepare`` has tokenised."""
        unique, back = np.unique(pairs, axis=0, return_inverse=True)
        split = self.long in ("max", "mean")
        spans = (self.passage_spans if split else self.first_spans)(inputs, unique)
        logits = self.score_spans(inputs, spans, on_progress)
        if split:
            logits = gather_passages(logits, spans.owner, self.long)
        return logits[back.reshape(-1)]

    def score_spans(
        self, inputs: PairInputs, spans: PairSpans, on_progress: ProgressCallback | None = None
    ) -> np.ndarray:
        """Return float32 logits [spans], batched by length."""
        scores = np.zeros(len(spans), np.float32)
        dtype, done = self.scoring_dtype(), 0
        chosen = self.path_logits
        lengths = spans.query.length + spans.document.length + self.template.pair_cost
        keys = (
            inputs.queries.keys[spans.query.text] * 31
            + inputs.documents.keys[spans.document.text] * 7
            + spans.document.start
        )
        with scoring(self.module):
            packed = PackedEncoder(self.module.base_model, dtype) if self.can_pack() and chosen is None else None
            for rows in batches_by_length(lengths, self.scoring_budget(), keys):
                batch = self.assemble(inputs, spans[rows])
                scores[rows] = self.logits(batch, packed, dtype).cpu().numpy() if chosen is None else chosen(batch)
                done += len(rows)
                if on_progress is not None:
                    on_progress(done, len(spans))
        return scores

    def truncation(self, queries: Sequence[str], documents: Sequence[str]) -> Truncation:
        """Count the documents that do not fit beside the longest of ``queries``."""
        inputs = self.prepare(queries or [""], documents)
        return inputs.truncation(inputs.with_longest_query(), self.room)

    def probe(self) -> np.ndarray:
        """Return float32 scores of a few fixed pairs, whatever ``dtype`` and path say."""
        chosen, self.path_logits = self.path_logits, None
        try:
            return super().probe()
        finally:
            self.path_logits = chosen

    def options(self) -> dict[str, Any]:
        """Return the constructor's further arguments."""
        return {
            "max_length": self.max_length,
            "seed": self.seed,
            "head": self.head,
            "dtype": self.dtype,
            "long": self.long,
            "overlap": self.overlap,
            "label": None if self.label is None else self.label.index,
            "query_prefix": self.query_prefix,
            "family": self.family,
        }

    def write_peer_files(self, folder: Path) -> None:
        """Write what makes ``sentence_transformers.CrossEncoder(folder).predict`` return logits.

        Its default for one label is a sigmoid; versions 4 and 5 read the activation from config.json, later
        ones from config_sentence_transformers.json.
        """
        path = folder / "config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        write_json(path, config | {"sentence_transformers": {"activation_fn": IDENTITY}})
        path = folder / "tokenizer_config.json"
        settings = json.loads(path.read_text(encoding="utf-8"))
        write_json(path, settings | {"model_max_length": self.max_length})
        write_json(
            folder / "modules.json",
            [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"}],
        )
        write_json(
            folder / "sentence_bert_config.json",
            {
                "transformer_task": "sequence-classification",
                "module_output_name": "scores",
                "modality_config": {"text": {"method": "forward", "method_output_name": "logits"}},
            },
        )
        write_json(
            folder / "config_sentence_transformers.json",
            {
                "__version__": {},
                "model_type": "CrossEncoder",
                "activation_fn": IDENTITY,
                "prompts": {"query": self.query_prefix} if self.query_prefix else {},
                "default_prompt_name": "query" if self.query_prefix else None,
            },
        )


def classifier_prompt(
    files: SentenceFiles, loaded: Pretrained, family: str | None, decodes: bool
) -> tuple[Family | str | None, Prompt | None]:
    """Return whose prompt a classifier is asked by (a family, "own", None for the tokenizer's pairs), and the prompt.

    Args:
        files: The sentence-transformers files of the folder.
        loaded: The checkpoint with its tokenizer.
        family: The name of a family, ``own``, ``none``, or None where the folder decides.
        decodes: True if the classifier is a decoder.

    Raises:
        UsageError: For a family that is not known or has no prompt here, and for "own" where the folder has none.
    """
    if family == NONE or (family is None and not decodes and not files.reads_messages):
        return None, None
    if family in (None, OWN):
        own = OwnPrompt.of(files, loaded.tokenizer, replies=False)
        if own is not None:
            return OWN, own.prompt
        if family == OWN:
            raise UsageError(f"family='own': {loaded.source} has no chat template that takes a query and a document")
    architecture = type(loaded.module).__name__
    known = recognise(loaded.source, architecture) if family is None else find_family(family)
    if known is None:
        return None, None
    if known.refused is not None:
        raise UsageError(f"family={family!r}: {known.refused}")
    return known, pair_prompt(loaded.tokenizer, *known.pair) if known.pair else known.prompt(loaded.tokenizer)
