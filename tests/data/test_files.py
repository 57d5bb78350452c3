"""Files: strict text in, whole files out."""

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorank.data.files import json_lines, lines, open_text, write_json_lines, write_text, writing
from lorank.errors import DataError

TEXTS = st.lists(
    st.text(st.characters(exclude_characters="\r\n\ufeff", exclude_categories=["Cs"]), min_size=1).filter(
        lambda text: not text.isspace()
    )
)


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
@given(texts=TEXTS)
def test_lines_come_back_with_their_numbers(tmp_path_factory, name, texts):
    path = tmp_path_factory.mktemp("files") / name
    write_text(path, "".join(f"{text}\n" for text in texts))
    assert list(lines(path)) == list(enumerate(texts, start=1))
    assert list(open_text(path)) == texts


def test_gzip_is_told_by_content_and_blank_lines_and_marks_are_passed_over(tmp_path):
    path = tmp_path / "packed.txt"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbffirst\r\n\r\n \nlast"))
    assert list(lines(path)) == [(1, "first"), (4, "last")]


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_bytes_that_are_not_utf8_name_file_line_and_remedy(tmp_path, name):
    path = tmp_path / name
    content = b"fine\ncaf\xe9\n"
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with pytest.raises(DataError, match=rf"{name}:2: not UTF-8 \(byte 0xe9 at column 4\); convert the file"):
        list(lines(path))


def test_a_cut_off_gzip_file_and_a_missing_file_say_so(tmp_path):
    path = tmp_path / "cut.gz"
    path.write_bytes(gzip.compress(b"many words " * 1000)[:-20])
    with pytest.raises(DataError, match=r"cut.gz: the gzip data is damaged or cut off.*copy or compress"):
        list(lines(path))
    with pytest.raises(DataError, match=r"none.txt: there is no such file; check the path"):
        list(lines(tmp_path / "none.txt"))


@pytest.mark.parametrize("text", ['{"a": 1', "[1]", "plain"])
def test_a_broken_json_line_names_its_line_and_what_was_expected(tmp_path, text):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 0}\n\n' + text + "\n")
    with pytest.raises(DataError, match=r"rows.jsonl:3: .*write one JSON object a line: THIS"):
        list(json_lines(path, "THIS"))


@pytest.mark.parametrize("name", ["run.txt", "run.txt.gz"])
def test_a_writer_that_fails_leaves_what_was_there_and_nothing_else(tmp_path, name):
    write_text(tmp_path / name, "old\n")

    def failing() -> None:
        with writing(tmp_path / name) as file:
            file.write("new\n" * 100_000)
            raise RuntimeError("disk")

    with pytest.raises(RuntimeError, match="disk"):
        failing()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert list(lines(tmp_path / name)) == [(1, "old")]


def test_nan_is_not_json_and_leaves_no_file(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json_lines([{"a": 1.0}, {"a": float("nan")}], tmp_path / "a.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_equal_content_gives_equal_bytes(tmp_path):
    for name in ("one.gz", "two.gz"):
        write_text(tmp_path / name, "same\n")
    assert (tmp_path / "one.gz").read_bytes() == (tmp_path / "two.gz").read_bytes()
