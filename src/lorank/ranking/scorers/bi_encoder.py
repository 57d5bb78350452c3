"""Bi-encoder: query and document are encoded apart, and the score is the similarity of their vectors.

Equation: s(q, d) = sim(e(q), e(d)) / temperature, with e the pooled last layer and what the folder has after it
(`lorank.ranking.scorers.vector_modules`; the mean by default) and sim the cosine or the dot product. The same scale
holds in training and in scoring, so a softmax over scores is the InfoNCE distribution, and a threshold found on one
holds for the other.

Paper: Reimers & Gurevych 2019, Sentence-BERT, arXiv:1908.10084.
"""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import normalizers
from torch import Tensor

from lorank.errors import UsageError
from lorank.progress import ProgressCallback
from lorank.ranking.scorers.batching import batches_by_length
from lorank.ranking.scorers.best_passage import best_by_words, inverse_frequencies
from lorank.ranking.scorers.encoded import EncodedDocuments, aggregate, titles_of
from lorank.ranking.scorers.folders import write_json
from lorank.ranking.scorers.held_vectors import similarities_to
from lorank.ranking.scorers.packed import PackedEncoder, can_pack
from lorank.ranking.scorers.pairs import used_texts
from lorank.ranking.scorers.passage_gradients import best_passages, mean_passages
from lorank.ranking.scorers.precision import Dtype
from lorank.ranking.scorers.pretrained import load_pretrained, longest_input, with_padding
from lorank.ranking.scorers.ranker import Documents
from lorank.ranking.scorers.scoring_mode import scoring
from lorank.ranking.scorers.sentence_files import SentenceFiles
from lorank.ranking.scorers.text_ranker import Long, TextRanker, Truncation
from lorank.ranking.scorers.texts import checked_texts
from lorank.ranking.scorers.titled import TITLED_PASSAGE, TitledTable, lay_out_titled
from lorank.ranking.scorers.tokens import Ragged, Span, TokenTable, tokenize, windows
from lorank.ranking.scorers.vector_modules import VectorModules, pool_tokens

LONGEST = 8192
"""Tokens of a text that are read where neither folder nor tokenizer says how many."""
Similarity = Literal["cosine", "dot"]
Passage = Literal["best", "words"]
Adapted = Literal["both", "queries"]


@dataclass(frozen=True)
class TextInputs:
    """Tokens of queries and of documents, prefixes included, and the documents' vectors where these stay as they are.

    ``vectors`` are those of all documents; whoever trains a ranker whose adapter is for queries alone makes them once.
    """

    queries: TokenTable
    documents: TokenTable
    vectors: EncodedDocuments | None = None

    @cached_property
    def idf(self) -> np.ndarray:
        """The inverse document frequency of each token, for choosing passages."""
        return inverse_frequencies(self.documents)


class BiEncoder(TextRanker[TextInputs]):
    """Score by the similarity of separately encoded texts.

    ``base`` is a packaged name, a folder, or a Hub name. Where ``similarity``, ``pooling``, ``max_length`` or a prefix
    is None, the folder's sentence-transformers files decide, else the cosine, mean pooling, 256 tokens, and no prefix.
    Several poolings are joined by +. Dense layers of the folder follow the pooling.

    ``score`` returns similarity / ``temperature``, float32; ``encode`` returns the vectors, of unit length for
    the cosine. ``dtype`` and ``long`` are explained in ``TextRanker`` and ``Long``; documents that need more
    than one passage share ``overlap`` tokens between neighbours (default: an eighth of
    a passage). Where ``long`` is "max", training takes the passage by which a document ranks, which costs one more
    pass over all passages of a batch, without gradients; ``passage="words"`` takes the one that has most of a query's
    words in its place, at no cost (`lorank.ranking.scorers.best_passage`). Where it is "mean", training takes all of
    them; else the first. "titled" is "max" with the document's title before each passage, and the title alone has a
    score too (`lorank.ranking.scorers.titled`).

    With ``adapted="queries"`` an adapter changes the vectors of queries alone: documents are encoded without it, so
    that vectors that were made before training, such as a dense index, stay valid.

    Args:
        base: A packaged name, a folder, or a name on the Hub.
        similarity: The similarity of two vectors, ``cosine`` or ``dot``; None leaves it to the folder.
        pooling: The pooling, or several joined by +; None leaves it to the folder.
        temperature: The number above 0 by which a similarity is divided.
        max_length: The most tokens of one text; None leaves it to the folder.
        query_prefix: The text before each query; None leaves it to the folder.
        document_prefix: The text before each document; None leaves it to the folder.
        dtype: The number format of scoring; training is always in float32.
        long: It says what happens to a document that is too long.
        overlap: The number of tokens that neighbouring passages share; None is an eighth of a passage.
        passage: With ``long`` "max" or "titled", the passage that is trained on: the ``best``, or that with most of a
            query's ``words``; None is the best, and words for "titled".
        passage_length: The most tokens of a passage of a document that is read in several; None is ``max_length``, and
            64 at most with ``long="titled"``.
        title_weight: With ``long="titled"``, the weight of the title alone beside the best passage, 0 or more.
        adapted: The texts whose vectors an adapter changes, ``both`` or ``queries``.
        token_budget: The most tokens in one scoring batch; None leaves the choice to the ranker.

    Raises:
        UsageError: If an option is out of its range, or the base cannot be opened as an encoder.

    >>> BiEncoder("minilm").score("sorting", ["how to sort a list", "the moon"]).argmax()    # doctest: +SKIP
    0
    """

    kind: ClassVar[str] = "bi-encoder"
    score_scale: ClassVar[str] = "similarity / temperature"
    longs: ClassVar[tuple[str, ...]] = get_args(Long)

    def __init__(
        self,
        base: str | Path,
        *,
        similarity: Similarity | None = None,
        pooling: str | None = None,
        temperature: float = 0.05,
        max_length: int | None = None,
        query_prefix: str | None = None,
        document_prefix: str | None = None,
        dtype: Dtype = "float32",
        long: Long = "truncate",
        overlap: int | None = None,
        passage: Passage | None = None,
        passage_length: int | None = None,
        title_weight: float = 0.35,
        adapted: Adapted = "both",
        token_budget: int | None = None,
    ) -> None:
        if adapted not in get_args(Adapted):
            raise UsageError(f"adapted={adapted!r}: choose 'both' or 'queries'")
        self.adapted: Adapted = adapted
        if passage is not None and passage not in get_args(Passage):
            raise UsageError(f"passage={passage!r}: choose 'best' or 'words'")
        if not 0 <= title_weight < float("inf"):
            raise UsageError(f"title_weight={title_weight} must be a number from 0 on")
        if passage_length is not None and passage_length < 8:
            raise UsageError(f"passage_length={passage_length} must be 8 tokens or more")
        self.passage, self.passage_length, self.title_weight = passage, passage_length, float(title_weight)
        if similarity not in (None, "cosine", "dot"):
            raise UsageError(f"similarity={similarity!r}: choose 'cosine' or 'dot'")
        if not temperature > 0:
            raise UsageError(f"temperature={temperature} must be above 0")
        loaded = load_pretrained(base, "encoder")
        if getattr(loaded.module, "pooler", None) is not None:
            loaded.module.pooler = None
        files = SentenceFiles.read(loaded.source)
        self.lower_case = files.lower_case
        if files.lower_case:
            lower_case(loaded.tokenizer, loaded.source)
        loaded = replace(loaded, new=(), tokenizer=with_padding(loaded.tokenizer))
        self.vector_modules = VectorModules.read(files, pooling)
        self.pooling = self.vector_modules.pooling
        self.dimension = self.vector_modules.dimension(loaded.module.config.hidden_size)
        self.similarity, self.temperature = similarity or similarity_of(files), float(temperature)
        self.query_prefix = files.query_prompt if query_prefix is None else query_prefix
        self.document_prefix = files.document_prompt if document_prefix is None else document_prefix
        most = longest_input(loaded.tokenizer, loaded.module.config, loaded.module)
        usual = files.max_length or (min(most, LONGEST) if files.found else 256)
        self._open(
            loaded,
            max_length=max_length or min(usual, most),
            dtype=dtype,
            long=long,
            overlap=overlap,
            token_budget=token_budget,
        )

    @property
    def room(self) -> int:
        """Tokens of one text, beside the special ones."""
        return self.max_length - self.template.single_cost

    def longest_passage(self, max_length: int, long: Long) -> int:
        """Return the most tokens of a passage, special ones included."""
        usual = TITLED_PASSAGE if long == "titled" else max_length
        return min(max_length, self.passage_length or usual)

    @property
    def passage_room(self) -> int:
        """Tokens of one passage, beside the special ones."""
        return self.longest_passage(self.max_length, self.long) - self.template.single_cost

    def head_parameters(self) -> Iterable[tuple[str, torch.nn.Parameter]]:
        """Yield nothing: a bi-encoder has no head."""
        return iter(())

    def prepare(self, queries: Sequence[str], documents: Documents) -> TextInputs:
        """Tokenise queries and documents once."""
        asked = self.tokens(queries, self.query_prefix, "query")
        if self.long != "titled":
            return TextInputs(asked, self.tokens(documents, self.document_prefix, "document"))
        texts = checked_texts(documents, "document")
        return TextInputs(
            asked, lay_out_titled(texts, self.tokens, self.passage_room, self.overlap, self.document_prefix)
        )

    def tokens(self, texts: Sequence[str], prefix: str, what: str = "text") -> TokenTable:
        """Return the tokens of texts with a prefix, and how many are the prefix's where those are not pooled."""
        table = tokenize(self.tokenizer, texts, self.room, prefix=prefix, what=what)
        if self.vector_modules.include_prompt or not prefix:
            return table
        own = len(tokenize(self.tokenizer, [prefix], self.room).ids)
        return replace(table, prompts=np.full(len(table), own, np.int64))

    def forward(self, inputs: TextInputs, queries: Tensor, documents: Tensor, mask: Tensor) -> Tensor:
        """Return scores [batch, list]; each query and each document of the grid is encoded once.

        Args:
            inputs: The texts that ``prepare`` has tokenised.
            queries: The int64 [batch] positions of the queries.
            documents: The int64 [batch, list] positions of the documents.
            mask: The bool [batch, list] grid, True where there is a document.
        """
        mask_host, grid = mask.cpu().numpy(), documents.cpu().numpy()
        query_ids, query_at = np.unique(queries.cpu().numpy(), return_inverse=True)
        document_ids, document_at = np.unique(grid[mask_host], return_inverse=True)
        rows = np.zeros(grid.shape, np.int64)
        rows[mask_host] = document_at
        asked, q = query_at.reshape(-1), self.encode_batch(inputs.queries, query_ids)
        if not len(document_ids):
            return torch.zeros(mask.shape, device=self.device)
        if self.adapted == "queries":
            held = inputs.vectors or self.vectors_of(inputs.documents, document_ids)
            at = document_ids if inputs.vectors is not None else np.arange(len(document_ids))
            every = similarities_to(q[torch.from_numpy(asked).to(self.device)], held, at)
            scores = every.gather(1, torch.from_numpy(rows).to(self.device))
            return (scores / self.temperature).masked_fill(~mask.to(self.device), 0.0)
        span = self.document_spans(inputs.documents, document_ids)
        if self.long == "mean":
            passages = self.encode_read(inputs.documents, replace(span, text=document_ids[span.text]))
            return self._grid_scores(q, asked, mean_passages(passages, span.text), rows, mask)
        titles = self.title_rows(inputs.documents, document_ids, span)
        at = np.broadcast_to(query_at.reshape(-1, 1), grid.shape)[mask_host], document_at.reshape(-1)
        chosen = self.training_passages(inputs, query_ids, document_ids, span, titles, at)
        used, row = np.unique(np.concatenate([chosen, titles[titles >= 0]]), return_inverse=True)
        vectors = self.encode_read(inputs.documents, replace(span[used], text=document_ids[span.text[used]]))
        rows[mask_host] = row[: len(chosen)]
        scores = self._grid_scores(q, asked, vectors, rows, mask)
        if not (titles >= 0).any():
            return scores
        place, rows = titles[at[1]], rows.copy()  # the gradient of the scores above still reads the rows
        rows[mask_host] = np.where(place >= 0, np.searchsorted(used, np.maximum(place, 0)), row[: len(chosen)])
        return (scores + self.title_weight * self._grid_scores(q, asked, vectors, rows, mask)) / (1 + self.title_weight)

    def _grid_scores(self, q: Tensor, asked: np.ndarray, vectors: Tensor, rows: np.ndarray, mask: Tensor) -> Tensor:
        """Return scores [batch, list] of the queries ``asked`` and the documents at ``rows``.

        Every query is multiplied by every vector, [queries, vectors], and the grid is read from the products: a batch
        with thousands of lists of a few queries would else gather a vector for each cell.

        Args:
            q: The vectors of the queries, [queries, dim].
            asked: The int64 [batch] rows of ``q``.
            vectors: The vectors of the documents, [vectors, dim].
            rows: The int64 [batch, list] rows of ``vectors``.
            mask: The bool [batch, list] grid, True where there is a document.
        """
        every = (q @ vectors.T).reshape(-1) / self.temperature
        cells = torch.from_numpy(asked[:, None] * len(vectors) + rows).to(self.device)
        return every[cells].masked_fill(~mask.to(self.device), 0.0)

    def title_rows(self, table: TokenTable, documents: np.ndarray, span: Span) -> np.ndarray:
        """Return the row of ``span`` that is each document's title, int64 [documents], -1 where it has none."""
        titled = titles_of(table, documents)
        return np.where(titled, np.searchsorted(span.text, np.arange(len(documents))), -1)

    def training_passages(
        self,
        inputs: TextInputs,
        queries: np.ndarray,
        documents: np.ndarray,
        span: Span,
        titles: np.ndarray,
        at: tuple[np.ndarray, np.ndarray],
    ) -> np.ndarray:
        """Return the passage that each cell of a batch is trained on, int64 [cells], as a row of ``span``.

        Args:
            inputs: The texts that ``prepare`` has tokenised.
            queries: The int64 positions of the batch's queries.
            documents: The int64 positions of the batch's documents.
            span: The passages of the documents.
            titles: The row of ``span`` that is each document's title, -1 where it has none.
            at: The query and the document of each cell, both int64 [cells] positions in ``queries`` and ``documents``.
        """
        left_out = np.zeros(len(span), bool)
        left_out[titles[titles >= 0]] = True
        if len(span) == len(documents):
            return at[1]
        if (self.passage or ("words" if self.long == "titled" else "best")) == "best":
            return self.choose_passages(inputs, queries, documents, span, left_out)[at]
        scored = np.zeros((len(queries), len(documents)), bool)
        scored[at] = True
        read = inputs.queries, queries, inputs.documents, documents
        return best_by_words(*read, scored, span, left_out, inputs.idf)[at[1]]

    def choose_passages(
        self, inputs: TextInputs, queries: np.ndarray, documents: np.ndarray, span: Span, left_out: np.ndarray
    ) -> np.ndarray:
        """Return the best passage of each document for each query, int64 [queries, documents], as rows of ``span``.

        Passages are scored as they are when the ranker ranks, without dropout and gradients; parts that are
        ``left_out``, bool [parts], are no passages.
        """
        start, length = self.template.cut(inputs.queries.lengths[queries], self.room)
        q = self.encode_spans(inputs.queries, Span(queries, start, length))
        d = self.encode_spans(inputs.documents, replace(span, text=documents[span.text]))
        found = np.where(left_out, -np.inf, q @ d.T)
        return np.stack([best_passages(scores, span.text) for scores in found])

    def encode_batch(self, table: TokenTable, texts: np.ndarray, starts: np.ndarray | None = None) -> Tensor:
        """Return differentiable vectors [len(texts), dim] of texts of a table, by position.

        ``starts`` int64 [len(texts)] says with which token the passage of each text begins; None cuts the texts.
        """
        start, length = self.template.cut(table.lengths[texts], self.room)
        return self.encode_read(table, Span(texts, start if starts is None else starts, length))

    def encode_read(self, table: TokenTable, span: Span) -> Tensor:
        """Return differentiable vectors [spans, dim] of parts of the texts of a table."""
        order = np.argsort(-span.length, kind="stable")
        batch = self.template.assemble_single(table, span[order])
        back = torch.from_numpy(np.argsort(order)).to(self.device)
        packed = PackedEncoder(self.module) if can_pack(self.module) else None
        return self.pool(batch, packed, torch.float32)[back]

    def encode(
        self, texts: Sequence[str], *, query: bool = False, on_progress: ProgressCallback | None = None
    ) -> np.ndarray:
        """Return float32 vectors [texts, dim]; ``query=True`` puts the query's prefix in front."""
        prefix = self.query_prefix if query else self.document_prefix
        table = self.tokens(texts, prefix)
        start, length = self.template.cut(table.lengths, self.room)
        with nullcontext() if query else self.document_side():
            return self.encode_spans(table, Span(np.arange(len(table)), start, length), on_progress)

    def document_side(self) -> AbstractContextManager[Any]:
        """Return the context in which documents are encoded: without the adapter where it is for queries alone."""
        return self.reference() if self.adapted == "queries" else nullcontext()

    def encode_documents(
        self, documents: Sequence[str], on_progress: ProgressCallback | None = None
    ) -> EncodedDocuments:
        """Return the vectors of all parts of documents that are scored, to be searched.

        Args:
            documents: The texts.
            on_progress: It receives the number of parts that are encoded and their total.
        """
        return self.vectors_of(self.prepare([], documents).documents, np.arange(len(documents)), on_progress)

    def vectors_of(
        self, table: TokenTable, documents: np.ndarray, on_progress: ProgressCallback | None = None
    ) -> EncodedDocuments:
        """Return the vectors of all parts of ``documents`` int64 [n], positions in a table of documents."""
        span = self.document_spans(table, documents)
        begins = np.searchsorted(span.text, np.arange(len(documents)))
        with self.document_side():
            vectors = self.encode_spans(table, replace(span, text=documents[span.text]), on_progress)
        return EncodedDocuments(vectors, begins, titles_of(table, documents), self.long, self.title_weight)

    def encode_spans(self, table: TokenTable, span: Span, on_progress: ProgressCallback | None = None) -> np.ndarray:
        """Return float32 vectors [spans, dim], batched by length."""
        vectors = np.zeros((len(span), self.dimension), np.float32)
        dtype = self.scoring_dtype()
        batches = batches_by_length(span.length, self.scoring_budget(), table.keys[span.text] + span.start)
        done = 0
        with scoring(self.module):
            packed = PackedEncoder(self.module, dtype) if can_pack(self.module) else None
            for rows in batches:
                batch = self.template.assemble_single(table, span[rows])
                vectors[rows] = self.pool(batch, packed, dtype).cpu().numpy()
                done += len(rows)
                if on_progress is not None:
                    on_progress(done, len(span))
        return vectors

    def pool(self, batch: Ragged, packed: PackedEncoder | None, dtype: torch.dtype) -> Tensor:
        """Return float32 vectors [sequences, dim] of a ragged batch."""
        first = self.pooling == "cls" and batch.skipped is None
        if packed is not None:
            hidden = packed(batch, first_only=first).float()
        else:
            padded = batch.pad(self.tokenizer.pad_token_id, self.device, with_types=self.takes_types)
            with torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not torch.float32):
                hidden = self.module(**padded).last_hidden_state.float()
            hidden = hidden[:, 0] if first else hidden[padded["attention_mask"].bool()]
        vectors = self.vector_modules(
            hidden if first else pool_tokens(hidden, batch.lengths, self.pooling, batch.skipped)
        )
        return F.normalize(vectors, dim=-1) if self.similarity == "cosine" else vectors

    def score_pairs(
        self,
        queries: Sequence[str],
        documents: Documents,
        pairs: np.ndarray,
        on_progress: ProgressCallback | None = None,
    ) -> np.ndarray:
        """Return similarity / temperature of the pairs, float32 [n]; each text is encoded once.

        Args:
            queries: The texts of the queries.
            documents: The texts of the documents.
            pairs: The int64 [n, 2] positions in ``queries`` and ``documents``, one row per pair.
            on_progress: It receives the number of passages that are encoded and their total.
        """
        texts, read, at = used_texts(queries, documents, pairs)
        if not len(at):
            return np.zeros(0, np.float32)
        inputs = self.prepare(texts, read)
        self.report_truncation(count_truncation(inputs.documents))
        return self.score_prepared(inputs, at, on_progress)

    def score_prepared(
        self, inputs: TextInputs, pairs: np.ndarray, on_progress: ProgressCallback | None = None
    ) -> np.ndarray:
        """Return the scores float32 [n] of ``pairs`` int64 [n, 2] of positions in what ``prepare`` has tokenised.

        Each query and each document that stands in a pair is encoded once.
        """
        queries, query_at = np.unique(pairs[:, 0], return_inverse=True)
        documents, document_at = np.unique(pairs[:, 1], return_inverse=True)
        start, length = self.template.cut(inputs.queries.lengths[queries], self.room)
        q = self.encode_spans(inputs.queries, Span(queries, start, length))
        held = inputs.vectors
        held = self.vectors_of(inputs.documents, documents, on_progress) if held is None else held.of(documents)
        owner = np.repeat(np.arange(len(held)), held.counts)
        at = query_at.reshape(-1), document_at.reshape(-1)
        scores = aggregate(q, held.vectors, owner, *at, self.long, held.titled, self.title_weight)
        return scores / np.float32(self.temperature)

    def document_spans(self, table: TokenTable, documents: np.ndarray) -> Span:
        """Return the parts that are encoded of ``documents`` int64 [n] of a table: one, or several for ``long``.

        The text of a span is a position in ``documents``. Where ``long`` is "titled" a document's title comes first.
        """
        if isinstance(table, TitledTable):
            return table.parts.spans(documents)
        lengths = table.lengths[documents]
        if self.long in ("truncate", "first"):
            start, length = self.template.cut(lengths, self.room)
            return Span(np.arange(len(lengths)), start, length)
        return Span(*windows(lengths, np.full(len(lengths), self.passage_room), self.overlap))

    def truncation(self, queries: Sequence[str], documents: Sequence[str]) -> Truncation:
        """Count the documents that have more than ``max_length`` tokens, prefix and special tokens included."""
        return count_truncation(self.tokens(documents, self.document_prefix, "document"))

    def options(self) -> dict[str, Any]:
        """Return the constructor's further arguments."""
        return {
            "similarity": self.similarity,
            "pooling": self.pooling,
            "temperature": self.temperature,
            "max_length": self.max_length,
            "query_prefix": self.query_prefix,
            "document_prefix": self.document_prefix,
            "dtype": self.dtype,
            "long": self.long,
            "overlap": self.overlap,
            "passage": self.passage,
            "passage_length": self.passage_length,
            "title_weight": self.title_weight,
            "adapted": self.adapted,
        }

    def write_peer_files(self, folder: Path) -> None:
        """Write the module list, pooling and prompts of a SentenceTransformer."""
        names = self.vector_modules.write(folder, self.module.config.hidden_size, self.similarity == "cosine")
        write_json(
            folder / "modules.json",
            [
                {
                    "idx": i,
                    "name": str(i),
                    "path": f"{i}_{name}" if i else "",
                    "type": f"sentence_transformers.models.{name}",
                }
                for i, name in enumerate(names)
            ],
        )
        read = {"max_seq_length": self.max_length, "do_lower_case": self.lower_case}
        write_json(folder / "sentence_bert_config.json", read)
        write_json(
            folder / "config_sentence_transformers.json",
            {
                "__version__": {},
                "model_type": "SentenceTransformer",
                "prompts": {"query": self.query_prefix, "document": self.document_prefix},
                "default_prompt_name": None,
                "similarity_fn_name": self.similarity,
            },
        )


def count_truncation(table: TokenTable) -> Truncation:
    """Return how many texts of a table are too long."""
    return Truncation(len(table), table.truncated, int(table.lengths.max(initial=0)), table.limit)


def similarity_of(files: SentenceFiles) -> Similarity:
    """Return the similarity that a folder states, the cosine where it states none.

    Raises UsageError for distances, whose scale is another.
    """
    stated = files.similarity or "cosine"
    if stated not in ("cosine", "dot"):
        raise UsageError(
            f"{files.source} compares vectors by {stated!r}, which a bi-encoder here does not; say "
            "similarity='cosine' or similarity='dot' if one of them will do"
        )
    return stated  # type: ignore[return-value]


def lower_case(tokenizer: Any, source: str) -> None:
    """Let a tokenizer make texts small before anything else, as sentence-transformers does with do_lower_case."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise UsageError(f"{source} has do_lower_case, for which its tokenizer must have a tokenizer.json")
    state = str(backend.normalizer.__getstate__()) if backend.normalizer is not None else ""
    if "Lowercase" not in state:
        more = [] if backend.normalizer is None else [backend.normalizer]
        backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), *more])
