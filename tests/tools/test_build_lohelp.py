import gzip
import json
from itertools import combinations
from pathlib import Path

import build_lohelp as tool
import pytest

ROOT = Path(__file__).resolve().parents[2]
LOHELP = ROOT / "src/lorank/data/collections/lohelp"

PAGE = """<html><head><title>Sorting
 rows</title><script>let x = 1 < 2;</script></head><body><header><p>LibreOffice Help</p></header>
<div id="DisplayArea"><script>menu()</script><h1>Sorting</h1><div class="note"><p>Rows &amp; <b>columns</b>,
{words}</p></div>
<p>after</p></div><footer><div>foot</div></footer></body></html>"""

BOOKMARKS = """var bookmarks = [
{url:"en-US/text/calc/sort.html?DbPAR=CALC#a", app:"CALC", text:"sorting -- rows"},
{url:"en-US/text/calc/sort.html?DbPAR=CALC#b", app:"CALC", text:"rows; order (\\\\)"},
{url:"en-US/text/calc/other.html?DbPAR=CALC#c", app:"CALC", text:"sorting -- rows"},
{url:"en-US/text/calc/menu.html?DbPAR=CALC#d", app:"CALC", text:"menu"},
];"""


@pytest.fixture
def pages(tmp_path):
    folder = tmp_path / "help" / "text" / "calc"
    folder.mkdir(parents=True)
    for name, words in (("sort", 30), ("other", 30), ("alone", 30), ("menu", 3)):
        text = PAGE.format(words=" ".join(f"w{number}" for number in range(words)))
        (folder / f"{name}.html").write_text(text)
    (tmp_path / "help" / "bookmarks.js").write_text(BOOKMARKS)
    return tmp_path / "help"


def test_a_page_is_its_title_and_visible_text(pages):
    read = tool.read_pages(pages)
    assert list(read) == ["calc/alone", "calc/other", "calc/sort"]  # the menu has too few words
    title, text = read["calc/sort"]
    assert title == "Sorting rows"
    assert text.startswith("Sorting Rows & columns , w0 w1")
    assert text.endswith("w29 after")


def test_an_entry_is_a_query_and_its_pages_are_relevant(pages):
    assert tool.read_index(BOOKMARKS, tool.read_pages(pages)) == {
        "rows order ()": {"calc/sort"},
        "sorting rows": {"calc/sort", "calc/other"},
    }


def test_a_group_keeps_the_split_that_it_was_drawn_into():
    judged = {f"q{number:02}": {f"p{number // 2}"} for number in range(20)}
    first = tool.split_groups(judged, {})
    drawn = {query: name for name, queries in first.items() for query in queries}
    assert sorted(drawn) == sorted(judged)
    assert all(drawn[f"q{even:02}"] == drawn[f"q{even + 1:02}"] for even in range(0, 20, 2))
    grown = judged | {"new alike": {"p0"}, "new alone": {"p99"}}
    second = tool.split_groups(grown, drawn)
    again = {query: name for name, queries in second.items() for query in queries}
    assert {query: again[query] for query in judged} == drawn
    assert again["new alike"] == drawn["q00"]


def test_the_shipped_collection_is_built_the_same_again(pages, tmp_path):
    out = tmp_path / "lohelp"
    tool.build(pages, "the licence", out)
    files = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    tool.build(pages, "the licence", out)
    assert {path: path.read_bytes() for path in files} == files
    assert "3 documents" in (out / "README.md").read_text()


def test_groups_of_the_shipped_collection_lie_in_one_split():
    drawn = tool.read_drawn(LOHELP)
    assert {name: list(drawn.values()).count(name) for name in tool.SPLIT_SHARES} == {
        "train": 3314,
        "dev": 990,
        "test": 2315,
    }
    lines = gzip.decompress((LOHELP / "queries.jsonl.gz").read_bytes()).decode().splitlines()
    text_of = {row["_id"]: row["text"] for row in map(json.loads, lines)}
    judged: dict[str, set[str]] = {}
    for name in tool.SPLIT_SHARES:
        for row in gzip.decompress((LOHELP / "qrels" / f"{name}.tsv.gz").read_bytes()).decode().splitlines()[1:]:
            query, page, _ = row.split("\t")
            judged.setdefault(text_of[query], set()).add(page)
    groups = tool.group_queries(judged)
    assert len(groups) == 1484
    assert len(groups[0]) == 125
    assert all(len({drawn[query] for query in group}) == 1 for group in groups)
    pages = [set().union(*(judged[query] for query in judged if drawn[query] == name)) for name in tool.SPLIT_SHARES]
    assert not any(a & b for a, b in combinations(pages, 2))
