"""The report draws what `lorank inspect --attention --save` kept, and nothing where it was not asked."""

import json

import pytest

from lorank.errors import DataError
from lorank.reporting import write_report

LAYERS = [
    {"path": f"encoder.layer.{i}.attention.self", "bound": bound, "heads": 4, "below": below}
    for i, (bound, below) in enumerate([(1.25, 4), (6.5, 1)])
]
RANKS = {
    "latency_weight": 0.1,
    "layers": {
        each["path"]: {
            "width": 32,
            "rank": 12.5,
            "error": 0.0625,
            "full_share": 0.0,
            "errors": {"4": 0.5, "16": 0.25, "32": 0.0},
        }
        for each in LAYERS
    },
}
FOUND = {"error": 0.01, "tokens": 120, "threshold": 2.19, "layers": LAYERS}


def page_of(folder, attention):
    (folder / "run.json").write_text("{}")
    (folder / "spectra.json").write_text(json.dumps({"layers": [], "attention": attention}))
    return write_report(folder).read_text()


def test_scores_and_ranks_are_drawn(tmp_path):
    page = page_of(tmp_path, {**FOUND, "ranks": RANKS})
    for part in (
        "Scores of attention",
        "5 of 8 heads",
        "120 tokens",
        "block 1",
        "up to 6.50, 1 of 4 heads",
        "12.5",
        "16:&nbsp;25",
    ):
        assert part in page
    assert "1 lie below 2.19 with all their heads" in page
    assert page.count("root of log tokens") == 2, "one drawing for each width of the page"


def test_ranks_that_were_not_learned_are_not_shown_and_neither_is_attention(tmp_path):
    page = page_of(tmp_path, FOUND)
    assert "Scores of attention" in page
    assert "A policy learned" not in page
    assert "Scores of attention" not in page_of(tmp_path, None)


def test_a_malformed_part_is_named(tmp_path):
    with pytest.raises(DataError, match="spectra.json"):
        page_of(tmp_path, {**FOUND, "layers": [{"path": "a"}]})
