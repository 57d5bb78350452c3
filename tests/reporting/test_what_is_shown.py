"""The report of one run: its title, what training cost, what is bold, texts beside ids, axes and single points."""

import json
import re
from dataclasses import replace

import pytest

from lorank.ranking.metrics.evaluation import Evaluation
from lorank.reporting import write_report
from lorank.reporting.charts import Rung, curve_chart, ladder_chart

OURS = "bm25 + minilm, lora r=16"


def page_of(folder):
    return write_report(folder).read_text(encoding="utf-8")


def cells_of(page, system):
    """Return the cells of a system's row in the table of the ladder."""
    table = page[page.index('id="ladder-table"') :]
    rows = re.findall(r"<tr.*?</tr>", table[: table.index("</table>")], re.DOTALL)
    return next(row for row in rows if f'<span class="name">{system}</span>' in row)


def ticks_of(svg):
    """Return the numbers on the axes of a chart."""
    return [float(t.replace("−", "-")) for t in re.findall(r'class="tick"[^>]*>([−\d.]+)<', svg)]


def test_the_title_is_the_name_of_the_collection(write_run, parts):
    assert '<h1 dir="auto">Ranking pydocs</h1>' in page_of(write_run(**parts))
    parts["evaluation"] = replace(parts["evaluation"], collection="")
    assert '<h1 dir="auto">Ranking pydocs</h1>' in page_of(write_run(**parts))


@pytest.mark.parametrize(("p", "bold"), [(0.004, 2), (0.2, 0)])
def test_bold_is_only_what_is_better_than_what_it_is_compared_with(write_run, evaluation, p, bold):
    page = page_of(write_run(evaluation(p_holm=p)))
    assert cells_of(page, OURS).count('class="number better"') == bold
    assert 'class="number better"' not in cells_of(page, "bm25")


def test_what_training_cost_comes_from_the_record_of_the_run(write_run, parts):
    ladder = parts["evaluation"]
    systems = {name: replace(s, cost={}, role="tuned" if name == OURS else "") for name, s in ladder.systems.items()}
    parts["run"] |= {"outcome": {"train_seconds": 243.0, "steps": 400}}
    page = page_of(write_run(**{**parts, "evaluation": replace(ladder, systems=systems)}))
    row = cells_of(page, OURS)
    assert "4\u202fmin 03\u202fs" in row
    assert "589\u202f824" in row
    assert "\u202fmin" not in cells_of(page, "bm25")


def test_texts_stand_beside_the_ids_of_queries(write_run, parts):
    folder = write_run(**parts)
    queries = {query: f"the text of {query}" for query in parts["evaluation"].systems[OURS].values["nDCG@10"]}
    (folder / "queries.json").write_text(json.dumps(queries))
    page = page_of(folder)
    table = page[page.index('id="gains-table"') : page.index('id="examples"')]
    ids = re.findall(r'<span class="quiet">(q\d+)</span>', table)
    assert len(ids) == 20
    assert all(f'<span class="name">the text of {query}</span>' in table for query in ids)


@pytest.mark.parametrize("values", [(1.0,), (0.0,), (0.99, 1.0), (0.0, 0.002), (0.5,), (0.2, 0.9)])
@pytest.mark.parametrize("width", [880, 342])
def test_axes_of_a_measure_stay_within_its_range(values, width):
    rungs = [Rung(f"system {k}", value, value, value) for k, value in enumerate(values)]
    points = [(float(10 * k + 10), value) for k, value in enumerate(values)]
    ladder = ticks_of(ladder_chart(rungs, "nDCG@10", width))
    curve = curve_chart(points, width, x_name="step", y_name="dev nDCG@10")
    vertical = [t for t in ticks_of(curve) if t < 2]
    for marks in (ladder, vertical):
        assert 0 <= min(marks) < max(marks) <= 1
        assert min(marks) <= min(values)
        assert max(marks) >= max(values)


@pytest.mark.parametrize("width", [880, 342])
def test_a_single_point_is_drawn_as_a_dot_inside_the_chart(width):
    chart = curve_chart([(4.0, 2.5)], width, x_name="step", y_name="training loss")
    (x, y), height = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', chart)[0], 200
    assert 52 < float(x) < width
    assert 40 <= float(y) <= height - 40
    assert ticks_of(chart).count(4.0) == 1


def test_an_older_results_file_without_roles_costs_and_texts_still_reads(write_run, evaluation):
    old = evaluation().to_dict()
    for system in old["systems"].values():
        del system["role"], system["cost"], system["description"]
    assert "nDCG@10" in page_of(write_run(Evaluation.from_dict(old)))
