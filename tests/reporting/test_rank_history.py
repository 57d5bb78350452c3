"""Ranks over the run: the chart's cells stand where events and layers are; the section says what the journal holds."""

import xml.etree.ElementTree as ElementTree

import pytest

from lorank.errors import DataError
from lorank.reporting import read_run_folder, write_report
from lorank.reporting.charts import MOST_EVENTS, even_places, rank_history
from lorank.reporting.sections import rank_budget


def cells(drawing):
    root = ElementTree.fromstring(str(drawing))
    assert root.get("role") == "img"
    return root, [node for node in root.iter("rect") if node.get("class") == "cell"]


@pytest.mark.parametrize("width", [880, 342])
def test_a_cell_a_layer_and_event_darker_for_higher_ranks(width):
    events = [(0, {"a.query": 4, "b.query": 4}), (10, {"a.query": 2, "b.query": 6}), (20, {"a.query": 0, "b.query": 8})]
    root, found = cells(rank_history(events, width))
    assert len(found) == 6
    rows = [found[:3], found[3:]]
    assert [float(cell.get("fill-opacity")) for cell in rows[1]] == sorted(
        float(cell.get("fill-opacity")) for cell in rows[1]
    )
    assert rows[0][0].find("title").text == "a.query, step 0: rank 4"
    for cell in found:
        assert float(cell.get("x")) >= 0
        assert float(cell.get("x")) + float(cell.get("width")) <= width
    steps = [float(cell.get("x")) for cell in rows[0]]
    assert steps[2] - steps[1] == pytest.approx(steps[1] - steps[0], abs=0.02)
    assert "from 8 to 8" in root.get("aria-label")
    assert {"0", "8"} <= {node.text for node in root.iter("text")}


def test_a_deep_model_is_drawn_by_kind_of_weight():
    ranks = {f"layer.{k}.{kind}": k % 3 for k in range(40) for kind in ("query", "value")}
    root, found = cells(rank_history([(0, ranks), (5, ranks)], 880))
    assert len(found) == 4
    names = [node.text for node in root.iter("title")]
    assert "query (mean), step 5: rank 1.0" in names or "query (mean), step 5: rank 1" in names


def test_many_events_are_thinned_to_the_ends():
    events = [(step, {"a": 1}) for step in range(1000)]
    _, found = cells(rank_history(events, 880))
    assert len(found) == MOST_EVENTS
    assert even_places(1000, MOST_EVENTS)[0] == 0
    assert even_places(1000, MOST_EVENTS)[-1] == 999


def test_the_section_says_what_the_journal_holds(sample_run, parts):
    history = rank_budget(read_run_folder(sample_run).budget)
    last = parts["budget"][-1]
    assert (history.first_total, history.last_total) == (12 * 36, last["total"])
    assert history.empty == sum(rank == 0 for rank in last["ranks"].values())
    page = write_report(sample_run).read_text()
    assert "Ranks over the run" in page
    assert f"to {last['total']}, where it stayed" in page


def test_without_a_journal_there_is_no_section_and_a_broken_one_is_named(write_run, parts):
    folder = write_run(run=parts["run"])
    assert rank_budget(read_run_folder(folder).budget) is None
    assert "Ranks over the run" not in write_report(folder).read_text()
    (folder / "budget.jsonl").write_text('{"step": 1}\n')
    with pytest.raises(DataError, match="budget.jsonl:1: ranks"):
        read_run_folder(folder)
