"""Each kind of input as a small fixture with its expected rows, and a spoiled twin with its expected message."""

import json
import re
from dataclasses import dataclass

import pytest

from lorank.data import load
from lorank.data.importing import Choices, read_sources_as_collection
from lorank.data.importing.registry import Options
from lorank.errors import DataError, LorankError, UsageError

PAGE = """<!doctype html><html><head><title>{title}</title><style>p {{}}</style></head><body>
<nav><a href="/">Home</a></nav><main><h1>{title}</h1><p>Use <b>{word}</b>() &amp; smile.</p>
<h2>More</h2><ul><li>one</li><li>two</li></ul></main><script>track()</script><footer>(c)</footer></body></html>"""
DOCUMENTS = '{"_id": "d1", "title": "Lists", "text": "sort a list"}\n{"_id": "d2", "text": "a map"}\n'
QUERIES = '{"_id": "q1", "text": "sorting"}\n{"_id": "q2", "text": "maps"}\n'
TOPICS = """<top>
<num> Number: 301
<title> sorting lists
<desc> Description:
How are lists sorted?
</top>
<top><num>302</num><title>maps &amp; dicts</title></top>
"""
TREC_DOCUMENTS = """<DOC>
<DOCNO> FT-1 </DOCNO><HEADLINE>Lists</HEADLINE>
<TEXT><P>sort a list</P></TEXT>
</DOC>
<DOC><DOCNO>FT-2</DOCNO><TEXT>a map</TEXT></DOC>
"""


def seen(collection):
    """Return {query text: {document text: label}} over all splits, which says all but the ids."""
    text = dict(zip(collection.document_ids, collection.documents))
    return {
        query: {text[document]: label for document, label in split.qrels[name].items()}
        for split in collection.splits.values()
        for name, query in split.queries.items()
    }


def jsonl(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def parquet(rows):
    def write(path):
        import pyarrow
        from pyarrow import parquet as pq

        pq.write_table(pyarrow.Table.from_pylist(rows), path)

    return write


def arrow(rows, *, stream=False):
    def write(path):
        import pyarrow
        from pyarrow import ipc

        table = pyarrow.Table.from_pylist(rows)
        with (ipc.new_stream if stream else ipc.new_file)(str(path), table.schema) as writer:
            writer.write_table(table)

    return write


def datasets_dict(parts):
    """Write what datasets' ``DatasetDict.save_to_disk`` writes."""

    def write(folder):
        folder.mkdir()
        (folder / "dataset_dict.json").write_text(json.dumps({"splits": list(parts)}))
        for name, rows in parts.items():
            part = folder / name
            part.mkdir()
            arrow(rows, stream=True)(part / "data-00000-of-00001.arrow")
            state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": name}
            (part / "state.json").write_text(json.dumps(state))
            (part / "dataset_info.json").write_text("{}")

    return write


@dataclass(frozen=True)
class Kind:
    """Files by name (texts, bytes or writers), what is expected of them, a spoiled twin and its message."""

    files: dict[str, object]
    expected: dict[str, dict[str, float]] | None
    spoiled: dict[str, object]
    message: str
    documents: list[str] | None = None
    columns: dict[str, str] | None = None


PAIR = {"sorting": {"sort a list": 1}, "maps": {"a map": 1}}
TRIPLE = {"sorting": {"sort a list": 1, "a map": 0}}
GRADED = {"sorting": {"sort a list": 2.5, "a map": -1}}

KINDS = {
    "HTML": Kind(
        {"a.html": PAGE.format(title="Lists", word="sorted")},
        None,
        {"a.html": b"<title>\xff\xfe\xfa caf\xe9</title>"},
        r"a\.html:1: the page cannot be decoded .*meta charset",
        ["Lists\nUse sorted() & smile.\nMore\none\ntwo"],
    ),
    "HTML in Latin-1": Kind(
        {"a.htm": '<meta charset="latin-1"><title>Caf\xe9</title><p>Br\xfbl\xe9'.encode("latin-1")},
        None,
        {"a.htm": "<title>x</title><script>only()</script>"},
        r"a\.htm:1: the page holds no text",
        ["Café\nBrûlé"],
    ),
    "Markdown": Kind(
        {"a.md": "---\ntitle: Lists\n---\n# Sorting\nUse [`sorted`](x.html), **now**.\n\n```\na = 1\n\nb\n```\n"},
        None,
        {"a.md": "---\ntitle: x\n---\n# Only a heading\n"},
        r"a\.md:1: the file holds no text",
        ["Lists\nSorting\nUse sorted, now.\na = 1\n\nb"],
    ),
    "text": Kind(
        {"a.txt": "Lists\n\nTo sort\na list.\n\nA map.\n"},
        None,
        {"a.txt": b"caf\xe9\n"},
        r"a\.txt:1: not UTF-8 .*iconv",
        ["Lists\nTo sort a list.\nA map."],
    ),
    "reStructuredText": Kind(
        {
            "a.rst": "=====\nLists\n=====\n\nUse :func:`sorted` in\n*place*.\n\n"
            ".. image:: x.png\n   :alt: x\n\nMore\n----\nEnd::\n"
        },
        None,
        {"a.rst": ".. toctree::\n\n   other\n"},
        r"a\.rst:1: the file holds no text",
        ["Lists\nUse sorted in place.\nMore\nEnd:"],
    ),
    "CSV of pairs": Kind(
        {"a.csv": 'query,document\nsorting,"sort a list"\nmaps,"a map"\n'},
        PAIR,
        {"a.csv": "colour,size\nred,3\n"},
        r"a\.csv: the fields are colour, size \(first row: colour='red', size='3'\), none of which is known; "
        r"missing is a query .* and a document .*lorank import .*a\.csv --columns query=COLUMN",
    ),
    "CSV with semicolons, labels and mapped columns": Kind(
        {"a.csv": "frage;antwort;note\nsorting;sort a list;2.5\nsorting;a map;-1\n"},
        GRADED,
        {"a.csv": "frage;antwort;note\nsorting;sort a list;good\n"},
        r"a\.csv:2: the label 'good' is not a finite number; .*--skip-bad",
        columns={"query": "frage", "document": "antwort", "label": "note"},
    ),
    "TSV with a header": Kind(
        {"a.tsv": "query\tpassage\tlabel\nsorting\tsort a list\t1\nmaps\ta map\t1\n"},
        PAIR,
        {"a.tsv": "query\tpassage\tlabel\nsorting\tsort a list\n"},
        r"a\.tsv:2: 2 columns where the header has 3",
    ),
    "TSV without a header, columns by number": Kind(
        {"a.tsv": "1\tsorting\tx\tsort a list\n2\tmaps\tx\ta map\n"},
        PAIR,
        {"a.tsv": "1\tsorting\tx\tsort a list\n2\tmaps\n"},
        r"a\.tsv:2: 2 columns where the header has 4",
        columns={"query": "2", "document": "4"},
    ),
    "FlagEmbedding rows": Kind(
        {
            "a.jsonl": jsonl(
                {
                    "query": "sorting",
                    "pos": ["sort a list"],
                    "neg": ["a map"],
                    "pos_scores": [0.5],
                    "neg_scores": [0.25],
                }
            )
        },
        TRIPLE,
        {
            "a.jsonl": jsonl(
                {"query": "sorting", "pos": ["sort a list"], "neg": ["a map"], "pos_scores": [0.5, 1], "neg_scores": []}
            )
        },
        r"a\.jsonl:1: there are 2 positive scores for 1 documents",
    ),
    "sentence-transformers triplets and n-tuples": Kind(
        {
            "a.jsonl": jsonl(
                {"anchor": "sorting", "positive": "sort a list", "negative_1": "a map", "negative_2": "a set"}
            )
        },
        {"sorting": {"sort a list": 1, "a map": 0, "a set": 0}},
        {"a.jsonl": jsonl({"anchor": "sorting", "positive": "sort a list", "negative_1": "sort a list"})},
        r"a\.jsonl:1: the document 'sort a list' is listed twice",
    ),
    "sentence-transformers pairs with scores": Kind(
        {"a.jsonl": jsonl({"sentence1": "sorting", "sentence2": "sort a list", "score": 0.75})},
        {"sorting": {"sort a list": 0.75}},
        {"a.jsonl": jsonl({"sentence1": "sorting", "sentence2": "sort a list", "score": None})},
        r"a\.jsonl:1: the score is empty",
    ),
    "labelled pairs": Kind(
        {
            "a.jsonl": jsonl(
                {"question": "sorting", "answer": "sort a list", "label": True},
                {"question": "sorting", "answer": "a map", "label": False},
            )
        },
        TRIPLE,
        {
            "a.jsonl": jsonl(
                {"question": "sorting", "answer": "sort a list", "label": 1}, {"question": "maps", "answer": "a map"}
            )
        },
        r"a\.jsonl:2: there is no label, and the first row has one",
    ),
    "lists with labels": Kind(
        {"a.jsonl": jsonl({"query": "sorting", "documents": ["sort a list", "a map"], "labels": [2.5, -1]})},
        GRADED,
        {"a.jsonl": jsonl({"query": "sorting", "documents": ["sort a list"], "labels": [1, 2]})},
        r"a\.jsonl:1: there are 2 labels for 1 documents",
    ),
    "prompt, chosen, rejected": Kind(
        {"a.jsonl": jsonl({"prompt": "sorting", "chosen": "sort a list", "rejected": "a map"})},
        TRIPLE,
        {"a.jsonl": jsonl({"prompt": "sorting", "chosen": "", "rejected": "a map"})},
        r"a\.jsonl:1: there is no positive document",
    ),
    "chats, chosen and rejected": Kind(
        {
            "a.jsonl": jsonl(
                {
                    "chosen": [{"role": "user", "content": "sorting"}, {"role": "assistant", "content": "sort a list"}],
                    "rejected": [{"role": "user", "content": "sorting"}, {"role": "assistant", "content": "a map"}],
                }
            )
        },
        TRIPLE,
        {"a.jsonl": jsonl({"chosen": "sort a list", "rejected": "a map"})},
        r"a\.jsonl:1: there is no prompt",
    ),
    "Cohere's rows": Kind(
        {"a.jsonl": jsonl({"query": "sorting", "relevant_passages": ["sort a list"], "hard_negatives": ["a map"]})},
        TRIPLE,
        {"a.jsonl": jsonl({"query": "sorting", "relevant_passages": [], "hard_negatives": ["a map"]})},
        r"a\.jsonl:1: there is no positive document",
    ),
    "Tevatron's passages": Kind(
        {
            "a.jsonl": jsonl(
                {
                    "query_id": "1",
                    "query": "sorting",
                    "positive_passages": [{"docid": "a", "title": "", "text": "sort a list"}],
                    "negative_passages": [{"docid": "b", "title": "", "text": "a map"}],
                }
            )
        },
        TRIPLE,
        {"a.jsonl": '{"query": "sorting", "positive_passages": [\n'},
        r"a\.jsonl:1: broken JSON",
    ),
    "a JSON array": Kind(
        {
            "a.json": json.dumps(
                [{"query": "sorting", "document": "sort a list"}, {"query": "maps", "document": "a map"}]
            )
        },
        PAIR,
        {"a.json": '[{"query": "sorting"'},
        r"a\.json: broken JSON",
    ),
    "Parquet": Kind(
        {
            "a.parquet": parquet(
                [
                    {"query": "sorting", "text": "sort a list", "label": 2.5},
                    {"query": "sorting", "text": "a map", "label": -1.0},
                ]
            )
        },
        GRADED,
        {"a.parquet": b"PAR1 not really"},
        r"a\.parquet: not a readable Parquet file",
    ),
    "Arrow": Kind(
        {"a.arrow": arrow([{"anchor": "sorting", "positive": "sort a list", "negative": "a map"}])},
        TRIPLE,
        {"a.arrow": b"ARROW1 not really"},
        r"a\.arrow: not a readable Arrow file",
    ),
    "an Arrow stream": Kind(
        {"a.arrow": arrow([{"query": "sorting", "docs": ["sort a list", "a map"], "labels": [1, 0]}], stream=True)},
        TRIPLE,
        {"a.arrow": arrow([{"colour": "red"}], stream=True)},
        r"a\.arrow: the fields are colour",
    ),
    "a datasets folder": Kind(
        {
            "set": datasets_dict(
                {
                    "train": [{"query": "sorting", "positive": "sort a list"}],
                    "validation": [{"query": "maps", "positive": "a map"}],
                }
            )
        },
        PAIR,
        {"set": datasets_dict({"train": [{"query": None, "positive": "sort a list"}]})},
        r"train:1: the query is empty",
    ),
    "MS MARCO": Kind(
        {
            "collection.tsv": '7\tsort a "list\n8\ta map\n',
            "queries.dev.tsv": "1\tsorting\n2\tmaps\n",
            "qrels.dev.tsv": "1\t0\t7\t1\n2\t0\t8\t1\n",
        },
        {"sorting": {'sort a "list': 1}, "maps": {"a map": 1}},
        {"collection.tsv": "7\tsort a list\n8\n", "queries.dev.tsv": "1\tsorting\n", "qrels.dev.tsv": "1\t0\t7\t1\n"},
        r"collection\.tsv:2: 1 columns where the first row has 2",
    ),
    "MS MARCO's triples of ids": Kind(
        {
            "collection.tsv": "7\tsort a list\n8\ta map\n",
            "queries.tsv": "1\tsorting\n",
            "qidpidtriples.tsv": "1\t7\t8\n1\t7\t8\n",
        },
        TRIPLE,
        {"qidpidtriples.tsv": "1\t7\t8\n"},
        r"qidpidtriples\.tsv: it names queries by id, such as '1', and no source has their texts; "
        r"give these too: lorank import queries=FILE",
    ),
    "MS MARCO's triples of texts": Kind(
        {"triples.tsv": "how to sort\tsort a list\ta map\n"},
        {"how to sort": {"sort a list": 1, "a map": 0}},
        {"triples.tsv": "how to sort\tsort a list\ta map\nhow to map\ta map\ta map\n"},
        r"triples\.tsv:2: the relevant document is also the other one",
    ),
    "ANCE's triples": Kind(
        {
            "corpus.tsv": "7\tsort a list\n8\ta map\n9\ta set\n",
            "queries.tsv": "1\tsorting\n",
            "train.tsv": "1\t7\t8,9\n",
        },
        {"sorting": {"sort a list": 1, "a map": 0, "a set": 0}},
        {"corpus.tsv": "7\tsort a list\n", "queries.tsv": "1\tsorting\n", "train.tsv": "1\t7\t8,9\n"},
        r"train\.tsv: 2 of 3 judgments or clicks name queries or documents that no source has\n"
        r"  2 judgments or clicks of an unknown document:\n.*train\.tsv:1: '8'.*--dangling skip",
    ),
    "TREC topics, documents, qrels": Kind(
        {
            "topics.txt": TOPICS,
            "docs.trec": TREC_DOCUMENTS,
            "qrels.txt": "301 0 FT-1 2.5\n301 0 FT-2 -1\n302 0 FT-2 1\n",
        },
        {"sorting lists": {"Lists\nsort a list": 2.5, "a map": -1}, "maps & dicts": {"a map": 1}},
        {"docs.trec": TREC_DOCUMENTS.replace("<DOCNO>FT-2</DOCNO>", "")},
        r"docs\.trec:5: the document has no <DOCNO>",
    ),
    "TREC topics in XML": Kind(
        {
            "topics.xml": '<topics><topic number="1"><query>sorting</query></topic></topics>',
            "docs.trec": TREC_DOCUMENTS,
            "qrels.txt": "1 0 FT-2 1\n",
        },
        {"sorting": {"a map": 1}},
        {"topics.xml": '<topics>\n<topic number="1"><query>sorting</query>\n'},
        r"topics\.xml:2: the <topic> has no end",
    ),
    "JSON lines with judgments by id in a CSV": Kind(
        {
            "corpus.jsonl": DOCUMENTS,
            "queries.jsonl": QUERIES,
            "judged.csv": "query-id,corpus-id,relevance\nq1,d1,2.5\nq1,d2,-1\n",
        },
        {"sorting": {"Lists\nsort a list": 2.5, "a map": -1}},
        {
            "corpus.jsonl": DOCUMENTS,
            "queries.jsonl": QUERIES.replace('"text": "maps"', '"text": ""'),
            "judged.csv": "query-id,corpus-id,relevance\nq1,d1,1\n",
        },
        r"queries\.jsonl:2: the query is empty",
    ),
    "a click log": Kind(
        {
            "corpus.jsonl": DOCUMENTS,
            "log.jsonl": jsonl(
                {
                    "session": "s",
                    "query": "sorting",
                    "doc_ids": ["d1", "d2"],
                    "clicks": [1, 0],
                    "propensities": [1, 0.5],
                }
            ),
        },
        {"sorting": {"Lists\nsort a list": 1, "a map": 0}},
        {
            "corpus.jsonl": DOCUMENTS,
            "log.jsonl": jsonl({"session": "s", "query": "sorting", "doc_ids": ["d1", "d2"], "clicks": [1]}),
        },
        r"log\.jsonl:1: there are 1 clicks for 2 documents",
    ),
}


def written(folder, files):
    paths = []
    for name, content in files.items():
        path = folder / name
        if callable(content):
            content(path)
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        paths.append(path)
    return paths


def read(folder, files, columns=None):
    options = Options(columns or {}, negative="keep")
    return read_sources_as_collection(written(folder, files), Choices(options, splits="given"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_of_input_gives_its_rows(kind, tmp_path):
    case = KINDS[kind]
    if any(callable(content) for content in case.files.values()):
        pytest.importorskip("pyarrow")
    imported = read(tmp_path, case.files, case.columns)
    if case.expected is not None:
        assert seen(imported.collection) == case.expected  # exact: read, not computed
    if case.documents is not None:
        assert imported.collection.documents == case.documents


@pytest.mark.parametrize("kind", [kind for kind, case in KINDS.items() if len(case.files) == 1 and case.expected])
def test_load_takes_it_as_it_is(kind, tmp_path):
    case = KINDS[kind]
    if any(callable(content) for content in case.files.values()):
        pytest.importorskip("pyarrow")
    (path,) = written(tmp_path, case.files)
    assert seen(load(path, negative="keep", columns=case.columns)) == case.expected  # exact: read, not computed


@pytest.mark.parametrize("kind", KINDS)
def test_its_spoiled_twin_says_what_is_wrong(kind, tmp_path):
    case = KINDS[kind]
    if any(callable(content) for content in case.files.values()):
        pytest.importorskip("pyarrow")
    with pytest.raises(LorankError) as caught:
        read(tmp_path, case.spoiled, case.columns)
    assert re.search(case.message, str(caught.value), re.DOTALL), str(caught.value)


def pdf(path, pages):
    """Write a PDF of text with matplotlib, which embeds real fonts."""
    from matplotlib.backends.backend_pdf import PdfPages
    from matplotlib.figure import Figure

    with PdfPages(path, metadata={"Title": "Manual"}) as file:
        for lines in pages:
            figure = Figure(figsize=(5, 5))
            for i, line in enumerate(lines):
                figure.text(0.1, 0.9 - 0.1 * i, line)
            file.savefig(figure)


def test_a_pdf_is_read_without_its_running_heads(tmp_path):
    pytest.importorskip("pypdf")
    pdf(tmp_path / "a.pdf", [["The manual", f"sort list {word}", f"Page {i}"] for i, word in enumerate("abcd", 1)])
    (document,) = read_sources_as_collection([tmp_path / "a.pdf"]).collection.documents
    assert document.splitlines()[0] == "Manual"
    assert [word for word in document.split() if word in "abcd"] == ["a", "b", "c", "d"]
    assert "The manual" not in document
    assert "Page" not in document


def test_a_damaged_pdf_and_one_without_text_are_bad_rows(tmp_path):
    pytest.importorskip("pypdf")
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.7\nnothing")
    with pytest.raises(DataError, match=r"a\.pdf:1: not a readable PDF"):
        read_sources_as_collection([tmp_path / "a.pdf"])
    pdf(tmp_path / "b.pdf", [[]])
    with pytest.raises(DataError, match=r"b\.pdf:1: the PDF holds no text: scanned pictures\?"):
        read_sources_as_collection([tmp_path / "b.pdf"])


@pytest.mark.parametrize(
    ("module", "name", "content", "extra"),
    [
        ("pypdf", "a.pdf", b"%PDF-1.7", "lorank[pdf]"),
        ("pyarrow.parquet", "a.parquet", b"PAR1", "lorank[parquet]"),
        ("pyarrow", "a.arrow", b"ARROW1", "lorank[parquet]"),
    ],
)
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    module, name, content, extra, tmp_path, monkeypatch
):
    import sys

    monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=re.escape(f"pip install '{extra}'")):
        read_sources_as_collection([tmp_path / name])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.bin", b"\x89PNG\r\n\x1a\n" + bytes(40), "this is a PNG picture"),
        ("a.csv", b"\xff\xd8\xff\xe0" + bytes(40), "this is a JPEG picture"),
        ("a.csv", b"PK\x03\x04" + bytes(40), "this is a zip archive"),
        ("a.txt", b"SQLite format 3\0" + bytes(40), "this is an SQLite database; write its tables as CSV"),
        ("a.jsonl", b"\x93NUMPY\x01\0" + bytes(40), "this is a NumPy array"),
        ("a.csv", b"\x00\x01\x02\xff\xfe" * 9, "and no text either: the line begins with the bytes 00 01 02 ff fe"),
        ("a.dat", b"one line\n", "the name's ending '.dat' is not known, and the first row says no more: 'one line'"),
        ("a.dat", b"", "the file is empty"),
        ("a.dat", b"2 qid:1 1:0.5 2:1\n", "this is a LETOR file of features, not of texts; train on it as it is"),
        ("a.tsv", b"1\tsorting\n", r"2 columns without a header (first row: '1', 'sorting'), and their name does not"),
    ],
)
def test_a_file_of_no_kind_is_named_for_what_it_is(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_sources_as_collection([tmp_path / name])
    assert message in str(caught.value)
    assert ("iconv" in str(caught.value)) is False


def test_what_stands_before_an_equals_sign_says_what_a_file_is(tmp_path):
    (tmp_path / "a.tsv").write_text("1\tsorting\n")
    (tmp_path / "b.tsv").write_text("7\tsort a list\n")
    (tmp_path / "c.tsv").write_text("1\t7\t1\n")
    names = [f"queries={tmp_path / 'a.tsv'}", f"documents={tmp_path / 'b.tsv'}", f"judgments={tmp_path / 'c.tsv'}"]
    assert seen(read_sources_as_collection(names).collection) == {"sorting": {"sort a list": 1}}


def test_compressed_tables_and_names_without_an_ending_are_known(tmp_path):
    import gzip

    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"query,document\nsorting,sort a list\n"))
    (tmp_path / "rows").write_text(jsonl({"query": "maps", "document": "a map"}))
    names = [tmp_path / "a.csv.gz", tmp_path / "rows"]
    assert seen(read_sources_as_collection(names).collection) == PAIR


def test_quoted_cells_hold_separators_quotes_and_line_ends(tmp_path):
    (tmp_path / "a.csv").write_text('query,document\nsorting,"sort, a ""list""\nof words"\nmaps,\nsets,a set\n')
    with pytest.raises(DataError, match=r"a\.csv:4: the document is empty|a\.csv:4: the"):
        read_sources_as_collection([tmp_path / "a.csv"])
    (tmp_path / "a.csv").write_text('query,document\nsorting,"sort, a ""list""\nof words"\n')
    assert seen(read_sources_as_collection([tmp_path / "a.csv"]).collection) == {
        "sorting": {'sort, a "list"\nof words': 1}
    }


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("dataset_dict.json", "[1]", "no JSON object"),
        ("dataset_dict.json", '{"splits": "train"}', "'splits' is train, not a list"),
        ("dataset_dict.json", '{"splits": ["../train"]}', "'../train' is no name of a file"),
        ("dataset_dict.json", json.dumps({"splits": ["x" * 3000]}), "'x{60}' is no name of a file"),
        ("dataset_dict.json", "[" * 5000, "broken JSON"),
        ("train/state.json", '{"_data_files": [{"file": "x"}]}', "'None' is no name of a file"),
        ("train/state.json", '{"_data_files": {"filename": "x"}}', "not a list"),
        ("train/state.json", '{"_data_files": [{"filename": "none.arrow"}]}', "not a readable Arrow file"),
    ],
)
def test_a_folder_of_datasets_that_is_damaged_is_named_with_what_is_wrong(name, content, message, tmp_path):
    pytest.importorskip("pyarrow")
    datasets_dict({"train": [{"query": "sorting", "document": "sort a list", "label": 1}]})(tmp_path / "saved")
    (tmp_path / "saved" / name).write_text(content)
    with pytest.raises(DataError, match=message):
        load(tmp_path / "saved")


def test_an_arrow_file_whose_texts_are_no_utf8_is_named(tmp_path):
    pytest.importorskip("pyarrow")
    arrow([{"query": "sorting", "document": "sort a list", "label": 1}])(tmp_path / "a.arrow")
    content = (tmp_path / "a.arrow").read_bytes()
    (tmp_path / "a.arrow").write_bytes(content.replace(b"sort a list", b"sort \xa2 list"))
    with pytest.raises(DataError, match="not a readable Arrow file"):
        load(tmp_path / "a.arrow")
