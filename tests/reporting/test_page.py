"""The page: what it shows follows the files that are there, and what others wrote stays text."""

import re
import time
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from lorank.errors import DataError
from lorank.reporting import write_report

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """Collects elements, the ids of sections, and the text outside scripts and styles; checks the nesting."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.words = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.words.append(data)

    @property
    def text(self):
        return " ".join("".join(self.words).split())

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def sections(self):
        return [a["id"] for a in self.all("section")]


def page_of(folder):
    return Page(write_report(folder).read_text(encoding="utf-8"))


def test_the_whole_run(sample_run):
    out = write_report(sample_run)
    page = Page(out.read_text(encoding="utf-8"))
    assert out == sample_run / "report.html"
    assert page.sections == [
        "ladder",
        "comparisons",
        "trust",
        "changes",
        "examples",
        "learning",
        "mixing",
        "trained",
        "ranks",
        "collection",
        "again",
    ]
    for expected in (
        "is better than bm25 + minilm",
        "Recall ceiling",
        "Judged@10",
        "lorank demo --out runs/demo",
        "Seed 7",
        "4 min 03 s",
        "589 824",
        "2.4 MB",
        "The choice is 1.2",
        "best, step 300",
        "nDCG@10",
    ):
        assert expected in page.text.replace("\u202f", " ")
    assert [p.name for p in sample_run.iterdir() if p.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("given", "sections"),
    [
        (("evaluation",), ["ladder", "comparisons", "trust", "changes", "again"]),
        (("metrics",), ["learning", "again"]),
        (("run",), ["mixing", "trained", "collection", "again"]),
        (("examples",), ["examples", "again"]),
    ],
)
def test_a_missing_file_takes_its_section_away(write_run, parts, given, sections):
    page = page_of(write_run(**{name: parts[name] for name in given}))
    assert page.sections == sections
    targets = [a["href"] for a in page.all("a")]
    assert targets == ["#main", *(f"#{name}" for name in sections)]


@pytest.mark.parametrize(
    "part", ["adapter", "collection", "mix", "machine", "settings", "packages", "command", "seed", "created", "lorank"]
)
def test_any_part_of_the_run_card_may_be_absent(write_run, parts, part):
    page_of(write_run(run={k: v for k, v in parts["run"].items() if k != part}))
    page_of(write_run(run={part: parts["run"][part]}))


def test_a_tie_is_a_tie_on_the_page(write_run, evaluation):
    page = page_of(write_run(evaluation=evaluation(p_holm=0.05)))
    assert "a tie with" in page.text
    assert "better than" not in page.text


def test_what_others_wrote_stays_text(sample_run):
    page = page_of(sample_run)
    assert len(page.all("script")) == 1
    assert page.all("img") == page.all("b") == []
    assert "<script>document.title='taken'</script>" in page.text
    assert "</details><script>window.taken = true</script>" in page.text
    attributes = {key for _, given in page.elements for key in given}
    assert not [key for key in attributes if key.startswith("on") or key == "style"]


def test_hostile_names_everywhere(write_run, parts):
    hostile = "\"'><script>alert(1)</script>{{ 7*7 }}"

    def poison(thing):
        if isinstance(thing, dict):
            return {k if k in KEPT else k + hostile if k in OPEN else k: poison(v) for k, v in thing.items()}
        if isinstance(thing, list):
            return [poison(v) for v in thing]
        return thing + hostile if isinstance(thing, str) and thing != "inf" else thing

    KEPT, OPEN = {"queries"}, {"cpu", "python", "torch", "numpy", "loss", "k"}
    page = page_of(write_run(run=poison(parts["run"]), examples=poison(parts["examples"])))
    assert len(page.all("script")) == 1
    assert "49" not in re.findall(r"</script>(\w+)", page.text)


def test_lone_surrogates_and_nulls_do_not_break_the_file(write_run, parts):
    examples = parts["examples"]
    examples[0]["query"] = "broken \ud800 \x00 text"
    assert "broken ?" in page_of(write_run(examples=examples)).text


def test_nothing_is_loaded_from_anywhere(sample_run):
    page = page_of(sample_run)
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "http" not in policy
    links = [a.get("src", a.get("href")) for _, a in page.elements if "src" in a or "href" in a]
    assert all(link.startswith("#") or link == "data:," for link in links)


def test_landmarks_headings_and_names(sample_run):
    page = page_of(sample_run)
    for landmark in ("header", "nav", "main", "footer"):
        assert len(page.all(landmark)) == 1
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert all(a.get("aria-label") for a in page.all("svg"))
    scrolling = [a for a in page.all("div") if a.get("class") == "scrolling"]
    assert all(a.get("tabindex") == "0" and a.get("aria-label") for a in scrolling)


def test_contrast_of_text_is_at_least_four_and_a_half(sample_run):
    style = write_report(sample_run).read_text(encoding="utf-8")
    for block in re.findall(r":root \{(.*?)\}", style, re.S):
        colours = dict(re.findall(r"--(\w+): (#\w{6})", block))
        for text in ("ink", "soft", "accent"):
            for ground in ("paper", "well"):
                assert contrast(colours[text], colours[ground]) >= 4.5
        assert contrast(colours["loss"], colours["paper"]) >= 3


def contrast(one, other):
    """The contrast ratio of WCAG 2: (L1 + 0.05) / (L2 + 0.05) of relative luminances."""

    def luminance(colour):
        parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_a_large_run_stays_fast_and_small(write_run, evaluation, parts):
    examples = [
        {**example, "query_id": f"q{n:04d}", "query": "a longer query " * 20}
        for n, example in enumerate(parts["examples"] * 400)
    ]
    metrics = [{"step": k, "loss": 1 / (1 + k)} for k in range(30_000)]
    folder = write_run(evaluation(queries=5000), metrics, parts["run"], examples)
    start = time.process_time()
    out = write_report(folder)
    assert time.process_time() - start < 20
    assert out.stat().st_size < 3_000_000


def test_the_mix_that_leaves_the_first_stage_out(write_run):
    curve = [[0, 0.5], [1, 0.6], ["inf", 0.6]]
    alone = page_of(write_run(run={"mix": {"first_stage": "bm25", "first_stage_weight": 0.0, "dev_curve": curve}}))
    assert "The choice is the learned score alone, with 0.600 on dev." in alone.text
    unused = page_of(write_run(run={"mix": {"first_stage": "bm25", "dev_curve": [[0, 0.5], [1, 0.5]]}}))
    assert "did not help" in unused.text


def test_a_failed_report_leaves_the_old_one(sample_run):
    out = write_report(sample_run)
    before = out.read_bytes()
    (sample_run / "run.json").write_text("{")
    with pytest.raises(DataError):
        write_report(sample_run)
    assert out.read_bytes() == before


def test_out_may_be_elsewhere(sample_run, tmp_path):
    out = tmp_path / "deep" / "page.html"
    assert write_report(sample_run, out) == out
    assert out.is_file()
