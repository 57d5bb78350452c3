"""An import keeps texts in a file: the same folder as from memory, and memory that does not grow with the texts."""

import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorank.data.importing.collect import Choices, import_sources, read_sources_as_collection
from lorank.data.importing.stored_texts import StoredTexts, TextsInOrder
from lorank.errors import DataError


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.one_of(st.none(), st.text()))))
def test_it_is_a_dictionary(steps):
    stored, plain = StoredTexts(), {}
    for name, text in steps:
        if text is None:
            assert stored.pop(name, None) == plain.pop(name, None)
        else:
            stored[name] = plain[name] = text
        assert dict(stored) == plain
        assert list(stored) == list(plain)
    assert list(TextsInOrder(stored, ["b", *plain])) == [plain.get("b", ""), *plain.values()]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("words", [None, 10])
def test_a_folder_is_the_collection_that_memory_holds(named, words, tmp_path):
    rows = [
        ({"id": f"d{i}"} if named else {})
        | {"title": f"Überschrift {i % 3}", "text": f"text {i % 7} of " + "words " * (3 * i % 29)}
        for i in range(40)
    ]
    source = write(tmp_path / "documents.jsonl", rows)
    choices = Choices(passage_words=words)
    memory = read_sources_as_collection([f"documents={source}"], choices).collection
    folder = import_sources([f"documents={source}"], tmp_path / "out", choices).collection
    assert list(folder.document_ids) == list(memory.document_ids)
    assert list(folder.documents) == list(memory.documents)
    assert list(folder.titles) == list(memory.titles)
    written = [json.loads(line)["_id"] for line in (tmp_path / "out" / "corpus.jsonl").read_text().splitlines()]
    assert written == list(memory.document_ids)


def test_an_id_of_two_texts_is_refused_from_the_file_too(tmp_path):
    source = write(tmp_path / "documents.jsonl", [{"id": "a", "text": "one"}, {"id": "a", "text": "two"}])
    with pytest.raises(DataError, match="is there twice, with other text"):
        import_sources([f"documents={source}"], tmp_path / "out")


def test_memory_does_not_grow_with_the_texts(tmp_path):
    size, count = 40_000, 500
    source = write(tmp_path / "documents.jsonl", ({"id": f"d{i}", "text": f"{i} " + "x" * size} for i in range(count)))
    tracemalloc.start()
    import_sources([f"documents={source}"], tmp_path / "out")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 0.25 * size * count
