"""BEIR folders: what is read, what is refused, round trips."""

import json
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lorank.data.beir import read_beir, write_beir
from lorank.data.collection import Collection, Split
from lorank.errors import DataError, UsageError

CORPUS = '{"_id": "d1", "title": "One", "text": "first"}\n{"_id": "d2", "text": "second"}\n'
QUERIES = '{"_id": "q1", "text": "ask"}\n{"_id": "q2", "text": "ask more"}\n'
QRELS = "query-id\tcorpus-id\tscore\nq1\td1\t1\n"

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(str.strip)


def folder(tmp_path, corpus=CORPUS, queries=QUERIES, qrels=QRELS):
    (tmp_path / "qrels").mkdir()
    for name, content in (("corpus.jsonl", corpus), ("queries.jsonl", queries), ("qrels/test.tsv", qrels)):
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return tmp_path


def test_what_a_folder_holds(tmp_path):
    collection = read_beir(folder(tmp_path), "small")
    assert collection.document_ids == ["d1", "d2"]
    assert collection.documents == ["One\nfirst", "second"]
    assert collection.titles == ["One", ""]
    assert collection.splits == {"test": Split("test", {"q1": "ask"}, {"q1": {"d1": 1}})}


@pytest.mark.parametrize(
    ("parts", "place", "problem", "remedy"),
    [
        (
            {"corpus": CORPUS + '{"_id": "d3", "text"\n'},
            "corpus.jsonl:3",
            "broken JSON",
            "write one JSON object a line",
        ),
        ({"corpus": CORPUS + "{}\n"}, "corpus.jsonl:3", "no '_id'", "a line is"),
        ({"corpus": CORPUS + '{"_id": "d3", "txt": "a"}\n'}, "corpus.jsonl:3", "no 'text'", "a line is"),
        ({"corpus": CORPUS + '{"_id": "d3", "text": 3}\n'}, "corpus.jsonl:3", "'text' is 3, not a string", "a line is"),
        ({"corpus": CORPUS + '{"_id": "d1", "text": "a"}\n'}, "corpus.jsonl:3", "the _id 'd1' is there twice", "give"),
        (
            {"corpus": CORPUS + '{"_id": "d3", "text": " "}\n'},
            "corpus.jsonl:3",
            "the document has neither title nor text",
            ".*fill or drop",
        ),
        ({"corpus": CORPUS.encode() + b'{"_id": "d3", "text": "caf\xe9"}\n'}, "corpus.jsonl:3", "not UTF-8", "convert"),
        ({"corpus": ""}, "corpus.jsonl", "the corpus is empty", "write one document"),
        ({"queries": QUERIES + '{"_id": "q3", "text": ""}\n'}, "queries.jsonl:3", "the query 'q3' is empty", "give it"),
        (
            {"queries": QUERIES + '{"_id": "q1", "text": "a"}\n'},
            "queries.jsonl:3",
            "the _id 'q1' is there twice",
            "give",
        ),
        ({"queries": QUERIES + "no\n"}, "queries.jsonl:3", "broken JSON", "write one JSON object a line"),
        (
            {"qrels": QRELS + "q1\td9\t1\n"},
            "test.tsv:3",
            "the document 'd9' is not in corpus.jsonl",
            "add the document",
        ),
        ({"qrels": QRELS + "q9\td1\t1\n"}, "test.tsv:3", "the query 'q9' is not in queries.jsonl", "add the query"),
        ({"qrels": QRELS + "q2\td1\t-1\n"}, "test.tsv:3", "the relevance -1 is below 0", "write 0"),
        ({"qrels": QRELS + "q1\td1\t2\n"}, "test.tsv:3", "document 'd1' is judged twice", "keep one row"),
        ({"qrels": "query-id\tcorpus-id\tscore\n"}, "test.tsv", "the file holds no judgments", "a row is"),
    ],
)
def test_bad_folders_name_file_line_and_remedy(tmp_path, parts, place, problem, remedy):
    with pytest.raises(DataError, match=rf"{re.escape(place)}: {re.escape(problem)}.*; {remedy}"):
        read_beir(folder(tmp_path, **parts))


def test_missing_and_doubled_files_say_so(tmp_path):
    folder(tmp_path)
    (tmp_path / "corpus.jsonl.gz").write_bytes(b"")
    with pytest.raises(DataError, match=r"both corpus.jsonl and corpus.jsonl.gz are there; remove"):
        read_beir(tmp_path)
    (tmp_path / "corpus.jsonl.gz").unlink()
    (tmp_path / "qrels" / "test.tsv").unlink()
    with pytest.raises(DataError, match=r"qrels: there are no judgments; write qrels/train.tsv"):
        read_beir(tmp_path)
    (tmp_path / "queries.jsonl").unlink()
    with pytest.raises(DataError, match=r"there is no queries.jsonl or queries.jsonl.gz; a BEIR folder holds"):
        read_beir(tmp_path)


def test_a_few_empty_documents_are_kept_and_told_of(tmp_path, caplog):
    corpus = "".join(json.dumps({"_id": f"d{i}", "text": "" if i == 7 else "a"}) + "\n" for i in range(1, 101))
    with caplog.at_level("WARNING"):
        collection = read_beir(folder(tmp_path, corpus=corpus))
    assert collection.documents[6] == ""
    assert "1 of 100 documents are empty (first at line 7)" in caplog.text
    with pytest.raises(DataError, match=r"corpus.jsonl:7: .*1 of 100"):
        read_beir(tmp_path, empty_share=0)


@st.composite
def collections(draw):
    ids = st.text("abc123-_.", min_size=1, max_size=5)
    documents = draw(st.dictionaries(ids, st.tuples(st.one_of(st.just(""), TEXT), TEXT), min_size=1, max_size=6))
    queries = draw(st.dictionaries(ids, TEXT, min_size=3, max_size=6))
    splits = {}
    for i, name in enumerate(("train", "dev", "test")):
        own = dict(list(queries.items())[i::3])
        judged = st.dictionaries(st.sampled_from(sorted(documents)), st.integers(0, 3), min_size=1)
        splits[name] = Split(name, own, {query: draw(judged) for query in own})
    titles = [title for title, _ in documents.values()]
    texts = [f"{title}\n{text}" if title else text for title, text in documents.values()]
    card = draw(st.text("# wörds\n"))
    return Collection("made", list(documents), texts, splits, titles if any(titles) else None, card)


@pytest.mark.parametrize("compress", [False, True])
@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=40, deadline=None)
@given(collection=collections())
def test_a_collection_comes_back(tmp_path_factory, compress, collection):
    path = tmp_path_factory.mktemp("beir")
    write_beir(collection, path, compress=compress)
    assert read_beir(path, "made") == collection
    assert (path / "corpus.jsonl.gz").exists() is compress


def test_a_query_with_two_texts_cannot_be_written(tmp_path):
    splits = {name: Split(name, {"q": f"text {name}"}, {"q": {"d": 1}}) for name in ("dev", "test")}
    with pytest.raises(UsageError, match="'q' has different texts in two splits"):
        write_beir(Collection("two", ["d"], ["text"], splits), tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "documents", "judged"),
    [
        ("cranfield/beir", 1400, {"test": (225, 1837)}),
        ("cisi/beir", 1460, {"test": (76, 3114)}),
        ("med/beir", 1033, {"test": (30, 696)}),
        ("nfcorpus/beir", 3395, {"train": (2563, 110075), "dev": (324, 11385), "test": (323, 12334)}),
        ("wikiqa/beir", 12153, {"train": (873, 8672), "dev": (126, 1130), "test": (243, 2351)}),
        ("trec-dl19/beir", 10852, {"test": (43, 3834)}),
        ("trec-dl19-smallcorpus", 5000, {"test": (43, 1601 + 1804 + 697)}),
    ],
)
def test_real_collections_load_with_their_counts(shared_data, name, documents, judged):
    collection = read_beir(shared_data / name)
    assert len(collection.document_ids) == documents
    assert {
        split.name: (len(split), sum(map(len, split.qrels.values()))) for split in collection.splits.values()
    } == judged


def test_cranfields_empty_documents_stay_and_stay_judged(shared_data):
    collection = read_beir(shared_data / "cranfield" / "beir")
    assert [collection.documents[collection.position[name]] for name in ("471", "995")] == ["", ""]
    assert collection.test.qrels["125"]["995"] == 2
