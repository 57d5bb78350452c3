"""The documents of `lorank rank` in every format, and what is said of a file that is none."""

import io

import pytest

from lorank.cli.documents import FORMATS, read_documents
from lorank.errors import DataError, UsageError

EXPECTED = ["One\nsort a list, or two", "the moon"]
GOOD = {
    "rows.jsonl": '{"title": "One", "text": "sort a list, or two"}\n\n"the moon"\n',
    "rows.ndjson": '{"title": "One", "text": "sort a list, or two"}\n"the moon"\n',
    "rows.md": "the moon\n\n# One\nsort a list, or two\n",
    "rows.csv": 'title,body\nOne,"sort a list, or two"\n,the moon\n',
    "rows.tsv": "id\ttitle\ttext\n1\tOne\tsort a list, or two\n2\t\tthe moon\n",
}


@pytest.mark.parametrize("name", GOOD)
def test_each_format_gives_the_same_documents(tmp_path, name):
    (tmp_path / name).write_text(GOOD[name])
    assert sorted(read_documents(str(tmp_path / name))) == sorted(EXPECTED)


def test_text_is_a_document_a_line(tmp_path):
    (tmp_path / "a.txt").write_text("sort a list\n\n  the moon \n")
    assert read_documents(str(tmp_path / "a.txt")) == ["sort a list", "the moon"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [('"a"\n{"text": "b"}\n', ["a", "b"]), ("a\nb\n", ["a", "b"]), ("{not json\n", DataError)],
)
def test_a_file_whose_name_says_nothing_is_told_by_its_first_line(tmp_path, given, expected):
    (tmp_path / "documents").write_text(given)
    if expected is DataError:
        with pytest.raises(DataError, match="documents:1: not JSON.*--format text"):
            read_documents(str(tmp_path / "documents"))
        assert read_documents(str(tmp_path / "documents"), "text") == ["{not json"]
    else:
        assert read_documents(str(tmp_path / "documents")) == expected


def test_headings_in_code_are_no_sections(tmp_path):
    (tmp_path / "a.md").write_text("# One\n```\n# a comment\nx = 1\n```\n## Two ##\ntext\n")
    assert read_documents(str(tmp_path / "a.md")) == ["One\n```\n# a comment\nx = 1\n```", "Two\ntext"]


@pytest.mark.parametrize(
    ("name", "content", "options", "says"),
    [
        ("a.jsonl", '"a"\n{"body": "b"}\n', {}, r"a.jsonl:2: neither a string .* but an object with 'body'"),
        ("a.csv", "id,label\n1,2\n", {}, r"a.csv:1: no column of text among 'id', 'label'; name it with --column"),
        ("a.csv", "id,text\n1,a,b\n", {}, r"a.csv:2: 3 cells where the header has 2"),
        ("a.csv", "id,text\n1,a\n", {"column": "txet"}, "did you mean 'text'"),
        ("a.txt", "a\n", {"column": "text"}, "has no columns; give --format csv"),
        ("a.txt", "\n", {}, "no document"),
        ("a.txt", "a\n", {"format": "jsnol"}, "did you mean 'jsonl'"),
    ],
)
def test_a_bad_file_is_told_with_its_remedy(tmp_path, name, content, options, says):
    (tmp_path / name).write_text(content)
    with pytest.raises((DataError, UsageError), match=says):
        read_documents(str(tmp_path / name), **options)


def test_the_standard_input(monkeypatch):
    class Input(io.StringIO):
        buffer = io.BytesIO(b"sort a list\nthe moon\n")

    monkeypatch.setattr("sys.stdin", Input())
    assert read_documents("-") == ["sort a list", "the moon"]
    assert set(FORMATS) == {"jsonl", "text", "markdown", "csv", "tsv"}
