"""Free queries from titles and first sentences."""

import numpy as np
import pytest

from lorank.data.collection import Collection, Split
from lorank.data.free_queries import free_queries, targets, without_source
from lorank.errors import UsageError

DOCUMENTS = {
    "a": ("Sorting a list", "Use sorted(). It is stable."),
    "b": ("Examples", "One example. Two."),
    "c": ("examples", "Other example! More."),
    "d": ("", "No title here.\nStill one paragraph."),
    "e": ("Only a title", ""),
    "f": ("Secret", "Judged by test. Yes."),
}
SPLITS = {
    "dev": Split("dev", {"q1": "x"}, {"q1": {"f": 1, "a": 0}}),
    "train": Split("train", {"q2": "y"}, {"q2": {"a": 1}}),
}


@pytest.fixture
def notes():
    texts = ["\n".join(part for part in each if part) for each in DOCUMENTS.values()]
    return Collection("notes", list(DOCUMENTS), texts, SPLITS, [title for title, _ in DOCUMENTS.values()])


def test_titles_that_name_one_document(notes):
    split = free_queries(notes, "titles", exclude=targets(notes))
    assert split == Split("train", {"free-a": "Sorting a list"}, {"free-a": {"a": 1}})


def test_first_sentences(notes):
    split = free_queries(notes, "first-sentences", exclude=targets(notes))
    assert split.queries == {
        "free-a": "Use sorted().",
        "free-b": "One example.",
        "free-c": "Other example!",
        "free-d": "No title here.",
    }


def test_targets_are_the_relevant_documents_of_the_named_splits(notes):
    assert targets(notes) == {"f"}
    assert targets(notes, ["train", "test"]) == {"a"}


def test_the_source_can_be_taken_out_of_the_documents(notes):
    bare = without_source(notes, "titles")
    assert bare.documents[0] == "Use sorted(). It is stable."
    assert bare.documents[4] == "Only a title"
    assert bare.titles is None
    headless = without_source(notes, "first-sentences")
    assert headless.documents[0] == "Sorting a list\nIt is stable."
    assert headless.documents[3] == "Still one paragraph."
    for source, collection in (("titles", bare), ("first-sentences", headless)):
        for query, row in free_queries(notes, source).qrels.items():
            text = free_queries(notes, source).queries[query]
            assert all(text not in collection.documents[collection.position[document]] for document in row)


def test_what_gives_no_queries_says_so(notes):
    with pytest.raises(UsageError, match="has no titles; take free queries from 'first-sentences'"):
        free_queries(without_source(notes), "titles")
    with pytest.raises(UsageError, match="unknown source of free queries 'title'; did you mean 'titles'"):
        free_queries(notes, "title")
    with pytest.raises(UsageError, match="gives no free queries from its titles"):
        free_queries(notes, "titles", exclude=set(DOCUMENTS))
    with pytest.raises(UsageError, match="holds features"):
        free_queries(Collection("f", ["a"], np.zeros((1, 2), np.float32), {}))
