r"""LitLLMs: keywords from a long query, a search by them, and reranking whose scores must be backed by a quotation.

    keywords(q)  a language model names them;     candidates = search(q + keywords)
    s(q, d), e   the model scores a document from 0 to 100 and quotes the words of d that say why
    s is void where e does not stand in d: the document goes behind all that have a score

A quotation is compared word by word, without case, punctuation and spacing, and has three words at least (or all of a
shorter document). Documents without a score keep the order of the search.

Paper: S. Agarwal et al. 2024, *LitLLMs, LLMs for Literature Review: Are we there yet?*, arXiv:2412.15249.

*Deviations*: prompts are ours; each document is asked about alone, and the writing of the review is left out. The
search is by the query with its keywords, in the place of an engine on the Web.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lorank.progress import ProgressCallback
from lorank.ranking.judges.query_writing import Completes
from lorank.ranking.types import Run
from lorank.registration import catalogued

KEYWORDS = """Name the keywords by which a search engine finds documents about this text. Write them alone, separated by
commas, {count} at most.

Text: {query}
Keywords:"""
SCORE = """How relevant is the passage to the text? Write a number from 0 to 100, and then quote the words of the
passage that say why, exactly as they stand there.

Text: {query}

Passage: {passage}

Answer in this form:
Score: NUMBER
Evidence: "WORDS OF THE PASSAGE"
"""
WORDS = 300
"""The words of a text that are shown."""
LEAST = 3
"""The fewest words of a quotation."""
TOGETHER = 16
"""The prompts that are put at once."""
_WORD = re.compile(r"\w+")
_SCORE = re.compile(r"score\s*[:=]\s*(\d+(?:\.\d+)?)", re.IGNORECASE)
_EVIDENCE = re.compile(r"evidence\s*[:=]\s*(.+)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Attributed:
    """What was said of a document: its score from 0 to 100, None where it is void, and the quotation."""

    document: str
    score: float | None
    evidence: str


def extract_keywords(judge: Completes, queries: Mapping[str, str], count: int = 8) -> dict[str, str]:
    """Return each query with the keywords that it lacks, at most ``count``, by the ids of the queries.

    Args:
        judge: What writes them.
        queries: The texts of the queries.
        count: The most keywords, 1 or more.
    """
    prompts = [KEYWORDS.format(query=_cut(text), count=count) for text in queries.values()]
    found = {}
    for (name, text), reply in zip(queries.items(), _complete(judge, prompts, None), strict=True):
        named = [each.strip() for each in reply.strip().partition("\n")[0].split(",")]
        known = {word.lower() for word in _WORD.findall(text)}
        more = [each for each in named[:count] if not {w.lower() for w in _WORD.findall(each)} <= known]
        found[name] = " ".join([text, *more])
    return found


@catalogued(
    "litllms",
    area="rerank",
    title="LitLLMs, LLMs for Literature Review: Are we there yet?",
    reach="lorank review --data D --judge openai:URL#MODEL; it trains nothing, so it has no recipe",
)
def rerank_attributed(
    judge: Completes,
    queries: Mapping[str, str],
    candidates: Run,
    texts: Mapping[str, str],
    on_progress: ProgressCallback | None = None,
) -> dict[str, list[Attributed]]:
    """Return the candidates of each query, those with a score that is backed first, best first.

    Args:
        judge: What scores and quotes.
        queries: The texts of the queries.
        candidates: The run of the search.
        texts: The texts of the documents.
        on_progress: It receives the number of documents that are done and their total.
    """
    pairs = []
    for query in queries:
        row = candidates.get(query, {})
        pairs += [(query, document) for document in sorted(row, key=row.__getitem__, reverse=True)]
    prompts = [SCORE.format(query=_cut(queries[query]), passage=_cut(texts[document])) for query, document in pairs]
    found: dict[str, list[Attributed]] = {query: [] for query in queries}
    for (query, document), reply in zip(pairs, _complete(judge, prompts, on_progress), strict=True):
        score, evidence = read_reply(reply)
        backed = score is not None and is_quoted(evidence, texts[document])
        found[query].append(Attributed(document, score if backed else None, evidence))
    return {query: sorted(row, key=_worth, reverse=True) for query, row in found.items()}


def _worth(said: Attributed) -> float:
    return -1.0 if said.score is None else said.score


def read_reply(reply: str) -> tuple[float | None, str]:
    """Return the score and the quotation of a reply; None and nothing where it has none.

    >>> read_reply('Score: 80\\nEvidence: "a red fox"'), read_reply("I do not know"), read_reply("Score: 101")
    ((80.0, 'a red fox'), (None, ''), (None, ''))
    """
    number, evidence = _SCORE.search(reply), _EVIDENCE.search(reply)
    score = None if number is None or float(number.group(1)) > 100 else float(number.group(1))
    return score, "" if evidence is None else evidence.group(1).strip().strip("\"“”'").strip()


def is_quoted(evidence: str, document: str) -> bool:
    """Return whether the words of a quotation stand in a document, one after the other.

    >>> is_quoted("the RED fox", "Here the red fox, runs"), is_quoted("the fox", "the red fox"), is_quoted("fox", "fox")
    (True, False, True)
    """
    quoted, held = ([word.lower() for word in _WORD.findall(text)] for text in (evidence, document))
    if not quoted or len(quoted) < min(LEAST, len(held)):
        return False
    return f" {' '.join(quoted)} " in f" {' '.join(held)} "


def as_run(found: Mapping[str, Sequence[Attributed]]) -> Run:
    """Return a run of the order: minus the places."""
    return {query: {each.document: -float(i) for i, each in enumerate(row)} for query, row in found.items()}


def _complete(judge: Completes, prompts: Sequence[str], on_progress: ProgressCallback | None) -> list[str]:
    replies: list[str] = []
    for first in range(0, len(prompts), TOGETHER):
        replies += judge.complete(prompts[first : first + TOGETHER])
        if on_progress is not None:
            on_progress(len(replies), len(prompts))
    return replies


def _cut(text: str) -> str:
    return " ".join(text.split()[:WORDS])
