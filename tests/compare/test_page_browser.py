"""The page of an experiment in a real browser: quiet, self-contained, no sideways scroll, names for every picture."""

from dataclasses import replace

import pytest

from chromium_browser import visiting
from lorank.compare.report import write_comparison
from lorank.compare.statistics_settings import StatisticsSettings
from planted_experiments import Planted, plant_experiment

pytestmark = pytest.mark.browser

LONG = "adapter=a-rather-long-name loss=lambda rank=16 alpha=32 rate=0.0003 targets=query,value"
SHIFTS = {
    "bm25": 0.0,
    "lora": 0.15,
    LONG: 0.02,
    "<img src=x onerror=alert(1)>": -0.1,
    "w" * 120: 0.0,
    "順位付け" * 12: 0.01,
}


@pytest.fixture(scope="module")
def page_path(tmp_path_factory):
    result = plant_experiment(
        SHIFTS,
        Planted(seed_sd=0.005),
        seeds=3,
        collections=("pydocs", "a-collection-of-a-name-without-any-space-in-it-" * 3),
        measures=("nDCG@10", "RR@10"),
        failed={"galore": "CUDA out of memory\n" + "x" * 3000},
        statistics=StatisticsSettings(rope=0.01, resamples=300),
    )
    documents = [{"id": "d1", "title": "A title", "snippet": "words " * 60, "score": 1.5, "relevance": 1}]
    example = {"query_id": "q1", "query": "what is it", "change": 0.5}
    example |= {side: {"system": "bm25", "documents": documents} for side in ("before", "after")}
    result = replace(result, examples={"pydocs": [example]}, source='name = "planted"\n' + "# long " * 300)
    return write_comparison(result, tmp_path_factory.mktemp("page"))


@pytest.fixture
def opened(chromium, page_path):
    """Open the page, quietly and alone."""
    with visiting(chromium, page_path) as visit:
        yield visit


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_no_sideways_scroll(opened, width, scheme):
    page = opened(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    outside = page.evaluate("""[...document.querySelectorAll('body *')]
        .filter((e) => !e.closest('.scrolling, .unseen, .skip') && e.getBoundingClientRect().right > innerWidth + 1)
        .map((e) => e.outerHTML.slice(0, 80))""")
    assert outside == []


@pytest.mark.parametrize("width", [390, 1280])
def test_no_label_is_cut_off_or_covered(opened, width):
    page = opened(viewport={"width": width, "height": 800})
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    found = page.evaluate("""[...document.querySelectorAll('svg')].filter((s) => s.checkVisibility()).flatMap((svg) => {
        const frame = svg.getBoundingClientRect();
        const boxes = [...svg.querySelectorAll('text')].map((t) => ({ t, b: t.getBoundingClientRect() }));
        const cut = boxes.filter(({ b }) =>
            b.left < frame.left - 2 || b.right > frame.right + 2 || b.bottom > frame.bottom + 2);
        const over = boxes.filter(({ t, b }, k) => boxes.some(({ b: c }, j) => j > k
            && Math.min(b.right, c.right) - Math.max(b.left, c.left) > 2
            && Math.min(b.bottom, c.bottom) - Math.max(b.top, c.top) > 5));
        return [...cut.map(({ t }) => 'cut: ' + t.textContent), ...over.map(({ t }) => 'covered: ' + t.textContent)];
    })""")
    assert found == []


def test_hostile_names_are_inert_and_visible(opened):
    page = opened()
    assert page.get_by_role("rowheader", name="<img src=x onerror=alert(1)>").first.is_visible()


def test_every_picture_has_a_name_and_every_table_a_caption_and_headers(opened):
    page = opened()
    assert page.evaluate("[...document.querySelectorAll('svg')].every((s) => s.role === 'img' && s.ariaLabel)")
    lacking = page.evaluate("""[...document.querySelectorAll('table')]
        .filter((t) => !t.caption || !t.querySelector('th[scope]') && !t.querySelector('th')).length""")
    assert lacking == 0
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_on_its_ground(opened, scheme):
    page = opened(color_scheme=scheme)
    low = page.evaluate("""(() => {
        const parse = (c) => c.match(/[\\d.]+/g).slice(0, 3).map(Number);
        const linear = (v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
        const light = (c) => parse(c).map((v) => linear(v / 255))
            .reduce((sum, v, k) => sum + v * [.2126, .7152, .0722][k], 0);
        const ground = light(getComputedStyle(document.body).backgroundColor);
        const texts = document.querySelectorAll('p, td, th, h1, h2, h3, a, summary, .quiet, .finding, svg text');
        return [...texts].map((e) => {
            const style = getComputedStyle(e), ink = light(e.closest('svg') ? style.fill : style.color);
            const ratio = (Math.max(ink, ground) + .05) / (Math.min(ink, ground) + .05);
            return ratio < 4.5 ? e.outerHTML.slice(0, 80) : null;
        }).filter(Boolean);
    })()""")
    assert low == []


def test_tables_sort(opened):
    page = opened()
    header = page.locator("#c0-table thead th", has_text="Difference")
    header.get_by_role("button").click()
    values = page.evaluate(
        "[...document.querySelectorAll('#c0-table tbody tr')].map((r) => r.querySelectorAll('td')[4].dataset.sort)"
    )
    numbers = [float(v) for v in values if v is not None]
    assert numbers == sorted(numbers, reverse=True)
