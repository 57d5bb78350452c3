"""The names that columns have in common use, and the roles they stand for.

Names are compared in lower case, with blanks and dashes as underscores. Where two columns have one role, the name that
stands first in its list is taken. ``--columns role=column`` overrides; for files without a header a column is named by
its number, from 1.
"""

import re
from collections.abc import Iterable, Mapping

from lorank.errors import UsageError, unknown_name

ROLES: dict[str, tuple[str, ...]] = {
    "query": ("query", "query_text", "question", "anchor", "search", "search_term", "search_query", "keyword",
              "keywords", "user_query", "q", "prompt", "instruction", "sentence1", "sentence_1", "text1", "sent0"),
    "query_id": ("query_id", "qid", "queryid", "topic", "topic_id", "question_id", "search_id"),
    "document": ("document", "document_text", "doc", "doc_text", "passage", "passage_text", "text", "content",
                 "contents", "body", "answer", "response", "context", "sentence2", "sentence_2", "text2", "sent1"),
    "document_id": ("document_id", "doc_id", "docid", "docno", "corpus_id", "passage_id", "pid", "product_id",
                    "item_id", "article_id", "page_id", "page", "clicked_url", "clicked_page", "clicked_document",
                    "url", "uri", "link", "path",
                    "file", "filename"),
    "id": ("_id", "id", "uid"),
    "title": ("title", "headline", "document_title", "doc_title", "product_title", "subject"),
    "positive": ("positive", "positives", "pos", "positive_passages", "positive_ctxs", "relevant_passages", "chosen"),
    "negative": ("negative", "negatives", "neg", "negs", "hard_negatives", "hard_negative", "negative_passages",
                 "negative_ctxs", "hard_neg", "rejected"),
    "documents": ("docs", "documents", "passages", "texts", "candidates"),
    "labels": ("labels", "relevances", "relevance_labels"),
    "label": ("label", "relevance", "relevance_label", "rel", "grade", "gain", "judgment", "judgement", "rating",
              "is_relevant", "relevant", "is_clicked", "was_clicked", "clicked",
              "click", "clicks", "click_count", "similarity", "similarity_score"),
    "score": ("score", "scores", "teacher_score"),
    "positive_scores": ("pos_scores", "positive_scores", "pos_score", "score_chosen"),
    "negative_scores": ("neg_scores", "negative_scores", "neg_score", "score_rejected"),
    "document_ids": ("doc_ids", "document_ids", "docids", "results", "shown"),
    "user": ("user", "user_id", "userid", "visitor", "visitor_id", "customer", "customer_id", "annotator"),
    "weight": ("weight", "sample_weight", "query_weight"),
    "group": ("group", "group_id", "tenant", "tenant_id", "site"),
    "propensity": ("propensity", "propensities", "examination"),
    "split": ("split", "subset", "partition"),
    "session": ("session", "session_id"),
}  # fmt: skip
"""Every role with the names that stand for it."""

_NUMBERED = re.compile(r"(negative|neg|hard_negative)_?\d+")


def plain(name: object) -> str:
    """Return a column's name as names are compared.

    >>> plain("Query-ID "), plain("Search Term")
    ('query_id', 'search_term')
    """
    return re.sub(r"[\s\-.]+", "_", str(name).strip().lower())


def roles_of(names: Iterable[object], mapped: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the columns of each role; only ``negative`` may have several.

    Raises UsageError for a mapped column that is not there.

    >>> roles_of(["Anchor", "positive", "negative_1", "negative_2", "x"], {})
    {'query': ['Anchor'], 'positive': ['positive'], 'negative': ['negative_1', 'negative_2']}
    """
    there = [str(name) for name in names]
    found: dict[str, list[str]] = {}
    for role, column in mapped.items():
        if column in there:
            found[role] = [column]
    taken = {column for columns in found.values() for column in columns}
    known = {plain(name): name for name in reversed(there) if name not in taken}
    for role, synonyms in ROLES.items():
        if role in found:
            continue
        columns = [known[synonym] for synonym in synonyms if synonym in known][:1]
        if role == "negative" and not columns:
            columns = [name for name in there if name not in taken and _NUMBERED.fullmatch(plain(name))]
        if columns:
            found[role] = columns
    return found


def check_roles(mapped: Mapping[str, str]) -> None:
    """Raise UsageError for a role that there is not."""
    for role in mapped:
        if role not in ROLES:
            raise unknown_name("role in --columns:", role, ROLES)


def parse_columns(text: str) -> dict[str, str]:
    """Return the roles and columns of ``query=q,document=text``; raise UsageError for another form.

    >>> parse_columns("query=q, label=y")
    {'query': 'q', 'label': 'y'}
    """
    mapped: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        role, equals, column = part.partition("=")
        if not equals or not column.strip():
            raise UsageError(f"--columns: {part!r} is not role=column; write for example --columns query=q,label=y")
        mapped[role.strip()] = column.strip()
    check_roles(mapped)
    return mapped
