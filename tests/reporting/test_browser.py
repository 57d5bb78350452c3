"""The report in a real browser: quiet console, no request, no sideways scroll, working buttons, inert markup."""

import pytest

from chromium_browser import visiting
from lorank.reporting import write_report

pytestmark = pytest.mark.browser
SCHEMES, WIDTHS = ["light", "dark"], [390, 1280]


@pytest.fixture
def opened(chromium, sample_run):
    """Open the sample report, quietly and alone."""
    with visiting(chromium, write_report(sample_run)) as visit:
        yield visit


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_no_sideways_scroll(opened, width, scheme):
    page = opened(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    outside = page.evaluate("""[...document.querySelectorAll('body *')]
        .filter((e) => !e.closest('.scrolling, .unseen, .skip') && e.getBoundingClientRect().right > innerWidth + 1)
        .map((e) => e.outerHTML.slice(0, 80))""")
    assert outside == []


def test_dark_is_dark_and_light_is_light(opened):
    brightness = {}
    for scheme in SCHEMES:
        colour = opened(color_scheme=scheme).evaluate("getComputedStyle(document.body).backgroundColor")
        brightness[scheme] = sum(int(part) for part in colour[4:-1].split(","))
    assert brightness["dark"] < 120 < 700 < brightness["light"]


def test_hostile_text_is_inert_and_visible(opened):
    page = opened()
    assert page.evaluate("window.taken") is None
    assert page.title() == "Ranking pydocs · lorank"
    assert page.get_by_role("heading", name="<script>document.title='taken'</script>").is_visible()


def test_tables_sort_by_click_and_by_key(opened):
    page = opened()
    header = page.locator("#ladder-table thead th", has_text="nDCG@10")
    cells = "[...document.querySelectorAll('#ladder-table tbody td:nth-child(2)')]"
    column = f"{cells}.map((cell) => Number(cell.dataset.sort))"
    header.get_by_role("button").click()
    assert header.get_attribute("aria-sort") == "descending"
    values = page.evaluate(column)
    assert values == sorted(values, reverse=True)
    header.get_by_role("button").press("Enter")
    assert header.get_attribute("aria-sort") == "ascending"
    assert page.evaluate(column) == sorted(values)
    assert "ascending" in page.locator("#said").text_content()


def test_unknown_values_sort_last_and_negative_ones_as_numbers(opened):
    page = opened()
    page.locator("#ladder-table thead th", has_text="Training").get_by_role("button").click()
    cells = page.locator("#ladder-table tbody tr td:nth-child(4)").all_text_contents()
    assert [c == "–" for c in cells] == sorted(c == "–" for c in cells)
    change = page.locator("#losses-table thead th", has_text="Change")
    change.get_by_role("button").click()
    texts = page.locator("#losses-table tbody td:last-child").all_text_contents()
    values = [float(t.replace("−", "-")) for t in texts]
    assert values == sorted(values, reverse=True)


def test_copy_takes_the_command(opened):
    page = opened(permissions=["clipboard-read", "clipboard-write"])
    button = page.get_by_role("button", name="Copy the command")
    button.click()
    page.locator("[data-copies=command]", has_text="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == "lorank demo --out runs/demo"


def test_tables_can_be_reached_and_scrolled_by_keyboard(opened):
    page = opened(viewport={"width": 390, "height": 800})
    region = page.get_by_role("region", name="Quality and cost of each system")
    region.focus()
    page.keyboard.press("ArrowRight")
    moved = (page.wait_for_timeout(50) or page.evaluate("document.activeElement.scrollLeft") for _ in range(100))
    assert any(moved)
    assert page.get_by_role("region", name="Largest losses").get_attribute("tabindex") == "0"


def test_it_reads_without_javascript(opened):
    page = opened(java_script_enabled=False)
    assert page.locator("#verdict").is_visible()
    assert page.get_by_role("button").count() == 0
    page.locator("details.example summary").nth(3).click()
    assert page.locator("details.example").nth(3).locator("li").first.is_visible()


def test_paper_has_charts_at_full_width_and_no_controls(opened):
    page = opened(viewport={"width": 718, "height": 1000})
    page.emulate_media(media="print")
    assert (
        page.evaluate("""[...document.querySelectorAll('.scrolling')]
        .filter((e) => e.checkVisibility() && e.scrollWidth > e.clientWidth).map((e) => e.ariaLabel)""")
        == []
    )
    assert not page.locator("nav").is_visible()
    assert not page.get_by_role("button", name="Copy the command").is_visible()
    assert page.locator("#ladder .drawing.wide").is_visible()
