r"""A guess at the best passage of a long document: the one that covers most of the words of one of its queries.

    cover(q, w) = sum of idf(t) over tokens t in both q and w / sum of idf(t) over tokens t of q
    w(d) = the window w of d with the highest cover(q, w), q any query that d is scored for in the batch

with idf(t) = log(1 + N / df(t)) over the N documents. Of equal windows the first is taken, so a document that shares
nothing with its queries is read from its beginning.

Paper: Dai & Callan 2019, arXiv:1905.09217, score a document by its best passage (MaxP).

*Deviations*: theirs trains on every passage of a relevant document as if it were relevant; here one is chosen by its
words, which reads no more tokens than training on first passages. It need not be the passage with the highest score:
a bi-encoder trains on that one unless it is made with ``passage="words"``.
"""

import numpy as np

from lorank.ranking.scorers.tokens import Span, TokenTable


def inverse_frequencies(table: TokenTable) -> np.ndarray:
    """Return idf float32 [largest token id + 2] of the documents of a table; the last is of unknown ones.

    >>> table = TokenTable(np.array([0, 0, 1, 0], np.int32), np.array([0, 3, 4]), 8)
    >>> inverse_frequencies(table).round(2).tolist()
    [0.69, 1.1, 1.1]
    """
    size = int(table.ids.max(initial=-1)) + 2
    owner = np.repeat(np.arange(len(table), dtype=np.int64), table.lengths)
    found = np.unique(owner * size + table.ids)
    df = np.bincount(found % size, minlength=size)
    idf: np.ndarray = np.log1p(len(table) / np.maximum(df, 1)).astype(np.float32)
    return idf


def best_by_words(
    queries: TokenTable,
    asked: np.ndarray,
    documents: TokenTable,
    read: np.ndarray,
    scored: np.ndarray,
    span: Span,
    left_out: np.ndarray,
    idf: np.ndarray,
) -> np.ndarray:
    """Return the row of ``span`` of each document's passage, int64 [documents].

    Args:
        queries: The tokens of the queries.
        asked: The int64 [queries] positions of the batch's queries.
        documents: The tokens of the documents.
        read: The int64 [documents] positions of the batch's documents.
        scored: The bool [queries, documents] grid, True where the document is scored for the query.
        span: The passages of the documents, grouped by document; ``span.text`` is a position in ``read``.
        left_out: The bool [passages], True for a part that is no passage.
        idf: The weights that ``inverse_frequencies`` returned for the documents.
    """
    begins = np.searchsorted(span.text, np.arange(len(read) + 1))
    chosen: np.ndarray = begins[:-1] + left_out[begins[:-1]]
    rows = [np.unique(queries.row(query)) for query in asked]
    words = np.unique(np.concatenate(rows)) if rows else np.zeros(0, np.int32)
    if not len(words):
        return chosen
    weight = np.zeros((len(words), len(rows)), np.float32)
    for column, row in enumerate(rows):
        own = idf[np.minimum(row, len(idf) - 1)]
        weight[np.searchsorted(words, row), column] = own / max(float(own.sum()), 1e-9)
    for place in np.flatnonzero(begins[1:] - chosen > 1):
        row = documents.row(read[place])
        at = np.searchsorted(words, row)
        hit = np.flatnonzero(words[np.minimum(at, len(words) - 1)] == row)
        own = slice(chosen[place], begins[place + 1])
        present = np.zeros((own.stop - own.start, len(words)), np.float32)
        first = np.searchsorted(hit, span.start[own])
        last = np.searchsorted(hit, span.start[own] + span.length[own])
        for passage, (a, b) in enumerate(zip(first, last, strict=True)):
            present[passage, at[hit[a:b]]] = 1.0
        cover = np.where(scored[:, place], present @ weight, 0.0).max(1)
        chosen[place] += int(np.argmax(cover))
    return chosen
