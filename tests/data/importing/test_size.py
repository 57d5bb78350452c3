"""What a document takes in memory while it is imported, and that names of documents are found as before it was less."""

import gc
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from lorank.data.importing import Choices, read_sources_as_collection
from lorank.data.importing.names import Names, forms_of


def test_a_document_takes_little_more_than_its_text(tmp_path):
    """The text, its id, and their places in a dictionary and in lists; each further dictionary takes 100 bytes."""
    count, text = 20_000, "a passage of some words " * 20
    with (tmp_path / "collection.tsv").open("w") as file:
        file.writelines(f"{i}\t{text}{i}\n" for i in range(count))
    (tmp_path / "queries.tsv").write_text("1\twhat is this\n")
    (tmp_path / "qrels.tsv").write_text("1\t0\t77\t1\n")
    sources = [tmp_path / name for name in ("collection.tsv", "queries.tsv", "qrels.tsv")]
    gc.collect()
    tracemalloc.start()
    imported = read_sources_as_collection(sources, Choices())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(imported.collection.document_ids) == count
    assert peak / count < len(text) + 450


class AllNames:
    """Every form of every name, in one dictionary: as names are meant."""

    def __init__(self):
        self.ids, self.known = set(), {}

    def add(self, name, *others):
        self.ids.add(name)
        for other in {form for each in (name, *others) for form in forms_of(each)}:
            self.known[other] = name if self.known.get(other, name) == name else None

    def find(self, name):
        if name in self.ids:
            return name
        known = [self.known[form] for form in forms_of(name) if form in self.known]
        if known:
            return known[0]
        parts = forms_of(name)[1].split("/") if len(forms_of(name)) > 1 else name.split("/")
        for place in range(1, len(parts)):
            stem = forms_of("/".join(parts[place:]))[-1:]
            if stem and stem[0] not in ("index", "readme") and self.known.get(stem[0]):
                return self.known[stem[0]]
        return None


PARTS = st.sampled_from(["a", "b", "guide", "index"])
NAMES = st.builds(
    lambda folders, ending: "/".join(folders) + ending,
    st.lists(PARTS, min_size=1, max_size=3),
    st.sampled_from(["", ".html", ".md"]),
)


@given(st.lists(st.lists(NAMES, min_size=1, max_size=2), min_size=1, max_size=6), st.lists(NAMES, max_size=6))
def test_names_are_found_as_in_one_dictionary_of_all_forms(documents, asked):
    names, reference = Names(), AllNames()
    for document in documents:
        names.add(*document)
        reference.add(*document)
    for name in [*asked, *(each for document in documents for each in document)]:
        assert names.find(name) == reference.find(name)
