import doctest
import gzip
import importlib.util
import json
import sys
from itertools import combinations
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYDOCS = ROOT / "src/lorank/data/collections/pydocs"


def load_tool():
    spec = importlib.util.spec_from_file_location("build_pydocs", ROOT / "tools/build_pydocs.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["build_pydocs"] = module
    spec.loader.exec_module(module)
    return module


tool = load_tool()

PAGE = """<html><body><nav><p>menu</p></nav><div class="body">
<section id="module-heap"><span id="alias"></span><h1>4.2. heap — Queue<a class="headerlink" href="#">¶</a></h1>
<p id="index-0">A <em>heap</em>
is a &lt;tree&gt;.</p>
<div class="toctree-wrapper"><p>elsewhere</p></div>
<p>See <span class="target" id="index-1"></span><a class="pep" href="x">PEP 1</a>.</p>
<section id="theory"><h2><code>heap</code> Theory<a class="headerlink" href="#">¶</a></h2>
<span class="target" id="index-2"></span><dl><dt id="heap.push">heap.push(<em>x</em>)<a class="headerlink">¶</a></dt>
<dd><p>Push.</p><pre>if x:
    push(x)</pre></dd></dl>
<table><tr><td>a</td><td><p>b</p></td></tr></table><br></section>
<p>After the sub-section.</p></section></div><p>foot</p></body></html>"""

INDEX = """<ul><li>outside</li></ul><table class="indextable genindextable"><tr><td><ul>
<li>Python Enhancement Proposals<ul><li><a href="library/heap.html#index-1">PEP 1</a></li></ul></li>
<li>heap<ul><li><a href="library/heap.html#index-0"><strong>module</strong></a>,
    <a href="library/heap.html#index-2">[1]</a></li></ul></li>
<li>module<ul><li><a href="library/heap.html#index-2">heap</a></li></ul></li>
<li><a href="library/heap.html#index-2">tree &amp; queue</a>, <a href="whatsnew/1.html#index-0">[1]</a></li>
<li><a href="library/heap.html#heap.push">push() (in module heap)</a></li>
</ul></td></tr></table>"""


@pytest.fixture
def page():
    parser = tool.PageParser("library/heap")
    parser.feed(PAGE)
    return parser


def test_each_section_holds_its_own_text_and_no_navigation(page):
    top, theory = page.sections
    assert (top.id, top.title) == ("library/heap#module-heap", "heap — Queue")
    assert (theory.id, theory.title) == ("library/heap#theory", "heap — Queue: heap Theory")
    assert top.text == "A heap is a <tree>.\nSee PEP 1.\nAfter the sub-section."
    assert theory.text == "heap.push(x)\nPush.\nif x:\n    push(x)\na\nb"


def test_anchors_belong_to_the_innermost_section(page):
    assert {anchor: section.anchor for anchor, section in page.holder.items()} == {
        "module-heap": "module-heap",
        "alias": "module-heap",
        "index-0": "module-heap",
        "index-1": "module-heap",
        "theory": "theory",
        "index-2": "theory",
        "heap.push": "theory",
    }


def test_cross_references_are_told_from_hand_written_entries(page):
    assert page.references == {"index-1"}


def test_index_entries_keep_their_sub_entries_and_all_their_anchors():
    parser = tool.IndexParser()
    parser.feed(INDEX)
    assert parser.entries == [
        (("Python Enhancement Proposals", "PEP 1"), "library/heap#index-1"),
        (("heap", "module"), "library/heap#index-0"),
        (("heap", "module"), "library/heap#index-2"),
        (("module", "heap"), "library/heap#index-2"),
        (("tree & queue",), "library/heap#index-2"),
        (("tree & queue",), "whatsnew/1#index-0"),
        (("push() (in module heap)",), "library/heap#heap.push"),
    ]


def test_the_whole_way_on_one_page(tmp_path):
    html, out = tmp_path / "html", tmp_path / "out"
    (html / "library").mkdir(parents=True)
    (html / "library/heap.html").write_text(PAGE)
    (html / "genindex-all.html").write_text(INDEX)
    for page in ("copyright", "license"):
        (html / f"{page}.html").write_text("<section id='c'><h1>Copyright</h1><p>© the authors</p></section>")
    tool.build(html, out)

    def lines(name):
        return gzip.decompress((out / name).read_bytes()).decode().splitlines()

    assert [json.loads(line)["text"] for line in lines("queries.jsonl.gz")] == ["heap module", "tree & queue"]
    assert [json.loads(line)["text"] for line in lines("names/queries.jsonl.gz")] == [
        "Python Enhancement Proposals PEP 1",
        "push() (in module heap)",
    ]
    judged = [row for split in ("train", "dev", "test") for row in lines(f"qrels/{split}.tsv.gz")[1:]]
    assert sorted(judged) == [
        "q0001\tlibrary/heap#module-heap\t1",
        "q0001\tlibrary/heap#theory\t1",
        "q0002\tlibrary/heap#theory\t1",
    ]
    assert "© the authors" in (out / "LICENSE").read_text("utf-8")
    assert not list(out.rglob("*.tmp"))


def test_a_section_without_text_hands_its_anchors_to_the_first_one_inside():
    outer = tool.Section("p", "outer", None, "Outer")
    inner = tool.Section("p", "inner", outer, "Inner", ["words"])
    assert tool.find_target("p#x", {"p#x": outer}, [outer, inner]) == "p#inner"
    assert tool.find_target("p#y", {"p#x": outer}, [outer, inner]) is None


def test_the_order_of_words_that_documents_use_is_the_natural_one():
    entries = [(("file", "temporary"), "a"), (("temporary", "file"), "b")]
    phrases = tool.count_phrases(
        [path for path, _ in entries], [tool.Section("p", "s", None, "S", ["a temporary file"])]
    )
    assert tool.gather(entries, phrases) == [tool.Query("temporary file", {"a", "b"})]


def test_components_share_no_target_and_hubs_are_left_out():
    queries = [tool.Query(f"query {i}", {f"section {i}"}) for i in range(100)]
    queries += [tool.Query(f"pair {i}", {f"section {i}", f"section {i + 1}"}) for i in range(0, 20, 2)]
    queries += [tool.Query("hub", {f"section {i}" for i in range(20)})]
    splits, left_out = tool.split_by_target(queries)
    assert [query.text for query in left_out] == ["hub"]
    targets = [{t for q in chosen for t in q.targets} for chosen in splits.values()]
    assert all(a.isdisjoint(b) for a, b in combinations(targets, 2))
    assert {name: pytest.approx(len(chosen) / 110, abs=0.04) for name, chosen in splits.items()} == tool.SPLIT_SHARES


def test_doctests_of_the_tool():
    assert doctest.testmod(tool).failed == 0


def rows(name):
    with gzip.open(PYDOCS / name, "rt", encoding="utf-8") as stream:
        return list(stream)


def test_the_shipped_collection_is_whole():
    documents = {row["_id"]: row for row in map(json.loads, rows("corpus.jsonl.gz"))}
    queries = {row["_id"] for row in map(json.loads, rows("queries.jsonl.gz"))}
    assert all(row["text"].strip() and row["title"].strip() for row in documents.values())
    judged, targets = [], []
    for split in ("train", "dev", "test"):
        pairs = [row.split("\t")[:2] for row in rows(f"qrels/{split}.tsv.gz")[1:]]
        judged.append({query for query, _ in pairs})
        targets.append({document for _, document in pairs})
    assert set.union(*judged) == queries
    assert sum(map(len, judged)) == len(queries)
    assert set.union(*targets) <= set(documents)
    assert all(a.isdisjoint(b) for a, b in combinations(targets, 2))


def contents(folder):
    """The bytes of every file, unpacked: another zlib may pack the same lines differently."""
    found = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: gzip.decompress(data) if name.suffix == ".gz" else data for name, data in found.items()}


@pytest.mark.slow
def test_the_shipped_collection_is_what_the_tool_builds(tmp_path):
    if not (tool.DEBIAN_FOLDER / "genindex-all.html").is_file():
        pytest.skip("Debian's package python3.11-doc is not installed")
    tool.build(tool.DEBIAN_FOLDER, tmp_path)
    built, shipped = contents(tmp_path), contents(PYDOCS)
    assert built.keys() == shipped.keys()
    assert [str(name) for name in built if built[name] != shipped[name]] == []
