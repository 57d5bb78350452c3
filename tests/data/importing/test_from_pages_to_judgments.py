"""Pages cut into passages, menus dropped, clicks matched, splits made, and what is said of queries kept."""

import json
import re

import pytest

from lorank.data import load, rank_pages, read_beir, read_pages, write_beir
from lorank.data.folds import groups
from lorank.data.importing import Choices, import_sources, read_sources_as_collection
from lorank.data.importing.boilerplate import drop_shared
from lorank.data.importing.found import Page, Place, Section
from lorank.data.importing.names import Names
from lorank.data.importing.passages import cut_sections
from lorank.data.importing.registry import READERS, Options, reader
from lorank.errors import DataError, LorankError, UsageError

PLACE = Place(__file__, 1)


def words(count, stem="w"):
    return " ".join(f"{stem}{i}" for i in range(count))


@pytest.mark.parametrize(("size", "overlap"), [(20, 0), (20, 5), (50, 10)])
def test_passages_keep_all_words_in_order_and_their_size(size, overlap):
    sections = [Section("A", [words(7)]), Section("B", [words(33, "x"), words(90, "y")]), Section("C", [words(3, "z")])]
    passages = cut_sections(sections, size, overlap)
    assert max(len(passage.split()) for passage in passages) <= size
    found = [word for passage in passages for word in passage.split() if word not in "ABC"]
    kept = list(dict.fromkeys(found))
    assert kept == f"{words(7)} {words(33, 'x')} {words(90, 'y')} {words(3, 'z')}".split()
    assert (len(found) > len(kept)) is (overlap > 0)


def test_passages_begin_at_headings_and_repeat_the_heading_of_a_long_section():
    passages = cut_sections([Section("One", [words(8)]), Section("Two", [words(30, "x")])], 20)
    assert [passage.splitlines()[0] for passage in passages] == ["One", "Two", "Two"]
    assert cut_sections([Section("One", [words(300)])], 0) == [f"One\n{words(300)}"]


@pytest.mark.parametrize(
    ("size", "overlap", "message"), [(5, 0, "too short"), (20, 11, "does not fit"), (0, -1, "does not")]
)
def test_sizes_that_cannot_be_are_refused(size, overlap, message, tmp_path):
    (tmp_path / "a.txt").write_text("text\n")
    with pytest.raises(UsageError, match=message):
        read_sources_as_collection([tmp_path / "a.txt"], Choices(passage_words=size, overlap_words=overlap))


def pages(count):
    return [
        Page(
            PLACE,
            f"p{i}",
            f"Page {i} | Site",
            [Section("Menu", ["Home"]), Section("Text", [f"about {chr(97 + i)}", f"Page {i} of 9"])],
        )
        for i in range(count)
    ]


def test_what_most_pages_share_is_dropped_whatever_numbers_it_holds():
    kept, shared = drop_shared(pages(6))
    assert [page.sections for page in kept] == [[Section("Text", [f"about {chr(97 + i)}"])] for i in range(6)]
    assert [page.title for page in kept] == [f"Page {i}" for i in range(6)]
    assert set(shared.blocks.values()) == {6}
    assert shared.titles == {"Site": 6}


def test_of_few_pages_and_with_a_share_of_0_nothing_is_dropped():
    assert drop_shared(pages(4))[0] == pages(4)
    assert drop_shared(pages(6), 0)[0] == pages(6)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("guide/a.html", "guide/a.html"),
        ("/guide/a", "guide/a.html"),
        ("https://x.org/guide/a.html?x=1#top", "guide/a.html"),
        ("docs/guide/a.html", "guide/a.html"),
        ("guide/", "guide/index.html"),
        ("other/index.html", None),
        ("b", None),
        ("https://x.org/alias", "guide/a.html"),
    ],
)
def test_documents_are_found_by_the_names_that_clicks_use(name, found):
    names = Names()
    names.add("guide/a.html", "https://x.org/alias")
    for other in ("guide/index.html", "x/b.html", "y/b.html"):
        names.add(other)
    assert names.find(name) == found


@pytest.fixture
def site(tmp_path):
    """Twelve pages of two sections each, with a menu, and clicks on them: one query per page, and two by word."""
    folder = tmp_path / "site"
    folder.mkdir()
    clicks = ["query,page,clicks"]
    for i in range(12):
        head = f"<title>Page {chr(97 + i)} - Site</title><div>Welcome</div>"
        body = f"<h1>First</h1><p>{words(30, chr(97 + i))}</p><h2>Second</h2><p>{words(30, chr(97 + i) * 2)}</p>"
        (folder / f"{i}.html").write_text(head + body)
        clicks += [f"{chr(97 + i)}3,{i}.html,1", f"find {chr(97 + i) * 2}7,/{i},2"]
    (tmp_path / "clicks.csv").write_text("\n".join(clicks) + "\n")
    return tmp_path


def test_a_click_on_a_page_goes_to_the_passage_that_has_the_querys_words(site):
    imported = read_sources_as_collection([site / "site", site / "clicks.csv"], Choices(passage_words=40))
    collection = imported.collection
    text = dict(zip(collection.document_ids, collection.documents))
    judged = {q: (split.queries[q], row) for split in collection.splits.values() for q, row in split.qrels.items()}
    assert len(judged) == 24
    for query, row in judged.values():
        ((document, label),) = row.items()
        assert query.split()[-1] in text[document].split()
        assert label == (2 if query.startswith("find") else 1)
    assert "Welcome" not in "".join(collection.documents)
    assert set(imported.pages.values()) == {f"{i}.html" for i in range(12)}
    assert imported.summary.pages == 12
    assert imported.summary.dropped["shared parts of titles"] == 1


def test_by_page_both_ways_to_label_passages_say_the_same(site):
    names = [site / "site", site / "clicks.csv"]
    qrels = {}
    for way in ("best", "all"):
        imported = read_sources_as_collection(names, Choices(passage_words=40, page_labels=way, splits="given"))
        qrels[way] = rank_pages(imported.collection.train.qrels, imported.pages)
    assert qrels["best"] == qrels["all"]  # exact: read, not computed
    assert all(len(row) == 1 for row in qrels["best"].values())


def test_the_folder_is_read_again_with_its_pages_and_summary(site):
    imported = import_sources([site / "site", site / "clicks.csv"], site / "out", Choices(passage_words=40))
    assert read_pages(site / "out") == imported.pages
    again = read_beir(site / "out")
    assert again.splits == imported.collection.splits
    assert again.documents == imported.collection.documents
    line = json.loads((site / "out" / "corpus.jsonl").read_text().splitlines()[0])
    assert line["metadata"] == {"page": imported.pages[line["_id"]]}
    assert json.loads((site / "out" / "import.json").read_text())["queries"] == 24
    with pytest.raises(LorankError, match="is there already; give another --out, or --overwrite"):
        import_sources([site / "site"], site / "out")
    import_sources([site / "site"], site / "out", overwrite=True)
    assert not (site / "out" / "qrels").exists()


def test_splits_are_made_by_groups_of_queries_and_by_the_seed(site):
    made = [
        read_sources_as_collection([site / "site", site / "clicks.csv"], Choices(passage_words=0, seed=seed)).collection
        for seed in (0, 0, 1)
    ]
    assert made[0].splits == made[1].splits
    assert made[0].splits != made[2].splits
    for collection in made:
        documents = [{d for row in split.qrels.values() for d in row} for split in collection.splits.values()]
        assert sum(map(len, documents)) == len(set().union(*documents)) == 12
        assert sum(map(len, collection.splits.values())) == 24
        assert list(collection.splits) == ["train", "dev", "test"]


def test_where_all_queries_are_tied_the_summary_says_so(tmp_path):
    (tmp_path / "a.csv").write_text("query,document\n" + "".join(f"query {i},the one document\n" for i in range(20)))
    imported = read_sources_as_collection([tmp_path / "a.csv"])
    assert sum(map(len, imported.collection.splits.values())) == 20
    assert set(imported.collection.splits) == {"train", "dev", "test"}
    assert re.search("20 of 20 queries are tied by shared relevant documents", imported.summary.notes[0])


def test_splits_that_sources_name_are_kept(tmp_path):
    (tmp_path / "rows.csv").write_text("query,document,split\na,x,train\nb,y,validation\nc,z,test\n")
    splits = read_sources_as_collection([tmp_path / "rows.csv"]).collection.splits
    assert {name: list(split.queries.values()) for name, split in splits.items()} == {
        "train": ["a"],
        "dev": ["b"],
        "test": ["c"],
    }
    for name, query in (("train", "a"), ("dev", "b")):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"query": query, "positive": f"{query} text"}) + "\n")
    names = [tmp_path / "train.jsonl", tmp_path / "dev.jsonl"]
    splits = read_sources_as_collection(names).collection.splits
    assert {name: list(split.queries.values()) for name, split in splits.items()} == {"train": ["a"], "dev": ["b"]}


def test_unknown_documents_are_counted_and_left_out_by_choice(site):
    with (site / "clicks.csv").open("a") as file:
        file.write("lost,/99,1\nlost too,/98,1\n")
    names = [site / "site", site / "clicks.csv"]
    with pytest.raises(
        DataError, match=r"2 of 26 judgments or clicks name .*\n.*unknown document:\n.*csv:26: '/99'\n.*csv:27"
    ) as caught:
        read_sources_as_collection(names)
    assert re.search(r"unknown document:\n.*csv:26: '/99'\n.*csv:27: '/98'", str(caught.value))
    assert "known documents are called '0.html'" in str(caught.value)
    imported = read_sources_as_collection(names, Choices(dangling="skip"))
    assert imported.summary.dropped["judgments or clicks of an unknown document"] == 2
    assert imported.summary.judgments == 24


def test_bad_rows_are_one_report_and_are_kept_where_they_are_skipped(tmp_path):
    rows = ["query,document,label", "a,x,1", "b,y,high", "c,z,low", "d,v,nan", "e,u,no number", ",t,1", "f,s,0"]
    (tmp_path / "a.csv").write_text("\n".join(rows) + "\n")
    with pytest.raises(DataError) as caught:
        import_sources([tmp_path / "a.csv"], tmp_path / "out")
    said = str(caught.value)
    assert "5 bad rows:" in said
    assert re.search(
        r"4  the label … is not a finite number\n.*a\.csv:3: .*'high'.*\n.*a\.csv:4: .*\n.*a\.csv:5: .*'nan'", said
    )
    assert "a.csv:6" not in said
    assert re.search(r"1  the query is empty\n.*a\.csv:7", said)
    assert not (tmp_path / "out").exists()
    imported = import_sources([tmp_path / "a.csv"], tmp_path / "out", skip_bad=True)
    skipped = [json.loads(line) for line in (tmp_path / "out" / "skipped.jsonl").read_text().splitlines()]
    assert [row["line"] for row in skipped] == [3, 4, 5, 6, 7]
    assert skipped[0]["row"] == {"query": "b", "document": "y", "label": "high"}
    assert imported.summary.dropped["bad rows: the label … is not a finite number"] == 4
    assert load(tmp_path / "out").train.queries == {"q1": "a", "q2": "f"}


ABOUT = {"user": "ann", "weight": 0.5, "group": "shop"}


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet", "arrow"])
def test_labels_weights_users_groups_and_propensities_survive_every_format(ending, tmp_path):
    rows = [
        {"query": "a", "document": "x one", "label": -1.5, "propensity": 0.25} | ABOUT,
        {"query": "a", "document": "y one", "label": 2.0, "propensity": 1.0} | ABOUT,
        {"query": "a", "document": "y one", "label": 1.0, "propensity": 1.0} | ABOUT | {"user": "bob"},
    ]
    path = tmp_path / f"rows.{ending}"
    if ending in ("csv", "tsv"):
        mark = "," if ending == "csv" else "\t"
        path.write_text("\n".join(mark.join(map(str, row)) for row in [list(rows[0]), *(row.values() for row in rows)]))
    elif ending == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import feather
        from pyarrow import parquet as pq

        table = pyarrow.Table.from_pylist(rows)
        pq.write_table(table, path) if ending == "parquet" else feather.write_feather(table, path)
    imported = import_sources([path], tmp_path / "out", Choices(Options(negative="keep"), splits="given"))
    again = read_beir(tmp_path / "out", negative="keep")
    assert again.splits == imported.collection.splits
    train = again.train
    assert train.queries == {"q1": "a", "q1~2": "a"}
    assert train.qrels == {"q1": {"d1": -1.5, "d2": 2}, "q1~2": {"d2": 1}}  # exact: read, not computed
    assert train.users == {"q1": "ann", "q1~2": "bob"}
    assert train.weights == {"q1": 0.5, "q1~2": 0.5}  # exact: read, not computed
    assert train.groups == {"q1": "shop", "q1~2": "shop"}
    assert train.propensities == {"q1": {"d1": 0.25, "d2": 1.0}, "q1~2": {"d2": 1.0}}  # exact: read, not computed
    assert groups(train, "query") == [["q1", "q1~2"]]
    write_beir(again, tmp_path / "copy", compress=True)
    assert read_beir(tmp_path / "copy", again.name, negative="keep") == again


def test_rows_keep_their_lists_and_a_teachers_scores(tmp_path):
    row = {"query": "a", "pos": ["x"], "neg": ["y", "z"], "pos_scores": [2.5], "neg_scores": [1.5, -0.5]}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    import_sources([tmp_path / "rows.jsonl"], tmp_path / "out")
    assert read_beir(tmp_path / "out").train.candidates == {"q1": {"d1": 2.5, "d2": 1.5, "d3": -0.5}}  # exact: read


@pytest.mark.parametrize(("way", "label"), [("max", 3), ("sum", 4), ("mean", 2)])
def test_what_is_clicked_several_times_has_one_label(way, label, tmp_path):
    (tmp_path / "a.csv").write_text("query,document,clicks\na,x,1\na,x,3\n")
    imported = read_sources_as_collection([tmp_path / "a.csv"], Choices(repeated=way))
    assert imported.collection.train.qrels == {"q1": {"d1": label}}
    assert imported.summary.dropped == {f"repeated judgments (their {way} is kept)": 1}


def test_queries_without_a_user_are_bad_where_others_have_one(tmp_path):
    (tmp_path / "a.csv").write_text("query,document,user\na,x,ann\nb,y,\n")
    with pytest.raises(DataError, match=r"a\.csv:3: the query 'q2' has no user, and others have one"):
        read_sources_as_collection([tmp_path / "a.csv"])


def test_documents_of_tables_are_cut_where_it_is_asked_for(tmp_path):
    (tmp_path / "docs.jsonl").write_text(json.dumps({"_id": "d", "title": "T", "text": words(50)}) + "\n")
    assert read_sources_as_collection([tmp_path / "docs.jsonl"]).collection.document_ids == ["d"]
    imported = read_sources_as_collection([tmp_path / "docs.jsonl"], Choices(passage_words=20))
    assert imported.collection.document_ids == ["d#1", "d#2", "d#3"]
    assert set(imported.pages.values()) == {"d"}


def test_a_folder_holds_many_kinds_and_passes_over_the_rest(tmp_path):
    (tmp_path / "a.md").write_text("# A\ntext\n")
    (tmp_path / "b.txt").write_text("text of b\n")
    (tmp_path / "x.png").write_bytes(b"\x89PNG")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "c.md").write_text("# C\ntext\n")
    imported = read_sources_as_collection([tmp_path])
    assert imported.collection.document_ids == ["a.md", "b.txt"]
    assert imported.summary.dropped == {"files of a kind that is not read (.png)": 1}
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "x.png").write_bytes(b"\x89PNG")
    with pytest.raises(DataError, match=r"nothing in it is of a kind that is read \(it holds 1 \.png\); read are "):
        read_sources_as_collection([tmp_path / "only"])


def test_pages_alone_are_named_with_the_command_that_makes_a_collection(tmp_path):
    (tmp_path / "a.md").write_text("# A\ntext\n")
    with pytest.raises(
        DataError, match=r"it holds 1 pages and no queries .*; give these too: lorank import .* clicks\.csv --out DIR"
    ):
        load(tmp_path)


def test_a_reader_of_ones_own_is_one_decorator():
    @reader("tests-own", "own files", endings=(".own",))
    def read_own(source, options, on_bad):
        yield from ()

    try:
        with pytest.raises(UsageError, match="there is a reader 'tests-own' already"):
            reader("tests-own", "own files")(read_own)
    finally:
        del READERS["tests-own"]


def test_what_the_pages_of_one_folder_share_is_dropped_there(tmp_path):
    for folder, notice in (("old", "This edition is out of date."), ("new", "")):
        (tmp_path / folder).mkdir()
        for i in range(6):
            text = f"# Page {chr(97 + i)}\n\n{notice}\n\n{folder} text of {chr(97 + i)}\n"
            (tmp_path / folder / f"{i}.md").write_text(text)
    (tmp_path / "old" / "6.md").write_text("# Empty\n\nThis edition is out of date.\n")
    imported = read_sources_as_collection([tmp_path])
    assert imported.collection.documents[0] == "Page a\nnew text of a"
    assert imported.collection.documents[6] == "Page a\nold text of a"
    assert imported.summary.dropped["pages with nothing of their own"] == 1
    assert imported.summary.pages == 12


def test_a_long_block_is_cut_between_sentences():
    passages = cut_sections([Section("", ["One two three. Four five six. " * 4 + words(25)])], 12)
    assert passages[0] == "One two three. Four five six. One two three. Four five six."
    assert max(len(passage.split()) for passage in passages) <= 12
