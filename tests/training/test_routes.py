"""Routers get the tasks and preferences that the rows bring."""

import json
from dataclasses import replace

import pytest
import torch

from lorank.data.collection import Split
from lorank.data.rows import read_rows, write_rows
from lorank.errors import DataError, UsageError
from lorank.lowrank.routing import context
from lorank.ranking.scorers import BiEncoder, CrossEncoder
from lorank.training.lists.batches import ListBatch, Route
from lorank.training.lists.routes import Routes, read_routes, score_batch
from lorank.training.loop.loop import train
from lorank.training.plan import build_plan, resolve_recipe
from lorank.training.settings import AdapterSettings, ListSettings, OptimizerSettings, Recipe
from tiny_collections import planted

pytestmark = pytest.mark.usefixtures("own_cache")

ROWS = [
    {"query": "sorting list", "pos": ["sorting words"], "neg": ["moon earth"], "task": "code", "preference": [1, 0]},
    {"query": "moon sun", "pos": ["moon earth"], "neg": ["sorting words"], "task": "sky", "preference": [0.25, 0.75]},
]


def written(tmp_path, rows):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_rows_bring_tasks_and_preferences_and_keep_them_when_written(tmp_path):
    data = read_rows(written(tmp_path, ROWS))
    assert data.train.tasks == {"q1": "code", "q2": "sky"}
    assert data.train.preferences == {"q1": [1, 0], "q2": [0.25, 0.75]}  # exact: read
    write_rows(data, tmp_path / "again.jsonl")
    again = read_rows(tmp_path / "again.jsonl")
    assert (again.train.tasks, again.train.preferences) == (data.train.tasks, data.train.preferences)


def test_a_group_is_the_task_where_there_is_none(tmp_path):
    rows = [{**row, "group": name} for row, name in zip(ROWS, ["north", "south"], strict=True)]
    for row in rows:
        del row["task"]
    train = read_rows(written(tmp_path, rows)).train
    assert read_routes(AdapterSettings("mhr"), train)[1] == Routes("group", ("north", "south"))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("task", 1.5, "the task 1.5 is neither a text nor a whole number"),
        ("task", True, "neither a text"),
        ("preference", [0.5, 0.6], "the preference .* sum to 1"),
        ("preference", [1.5, -0.5], "the preference"),
        ("preference", "much", "'preference' is not a list"),
    ],
)
def test_a_value_that_is_no_task_or_preference_is_named_with_its_line(tmp_path, column, value, message):
    path = written(tmp_path, [ROWS[1], {**ROWS[0], column: value}])
    with pytest.raises(DataError, match=message) as caught:
        read_rows(path)
    assert ":2" in str(caught.value)


SPLIT = Split(
    "train",
    {"a": "x", "b": "y"},
    {},
    tasks={"a": "code", "b": "sky"},
    preferences={"a": [1.0, 0.0, 0.0], "b": [0.0, 0.5, 0.5]},
)


def test_the_number_of_tasks_is_the_datas():
    adapter, routes = read_routes(AdapterSettings("mhr"), SPLIT)
    assert (adapter.options, routes.of(SPLIT)) == ({"tasks": 2}, {"a": Route(0), "b": Route(1)})
    adapter, routes = read_routes(AdapterSettings("palora"), SPLIT)
    assert adapter.options == {"tasks": 3}
    assert routes.of(SPLIT)["b"] == Route(None, (0.0, 0.5, 0.5))  # exact: copied
    for other in ("lora", "full", "taps"):
        assert read_routes(AdapterSettings(other), SPLIT) == (AdapterSettings(other), None)
    assert read_routes(AdapterSettings("mhr"), replace(SPLIT, tasks=None))[1] is None


@pytest.mark.parametrize(
    ("adapter", "split", "message"),
    [
        (AdapterSettings("mhr"), replace(SPLIT, tasks={"a": "code"}), "column 'task', which 1 of 2 rows lack.*: b"),
        (
            AdapterSettings("mhr", options={"tasks": 1}),
            SPLIT,
            "column 'task' has 2 tasks .code, sky.*options.tasks is 1",
        ),
        (AdapterSettings("palora", options={"tasks": 2}), SPLIT, "column 'preference' has 3 numbers"),
        (
            AdapterSettings("palora"),
            replace(SPLIT, preferences={"a": [1.0], "b": [0.5, 0.5]}),
            "'preference' has lists of 1 and of 2",
        ),
    ],
)
def test_columns_that_do_not_fit_are_named(adapter, split, message):
    with pytest.raises(UsageError, match=message):
        read_routes(adapter, split)


class Scorer:
    """Scores a list by the task under which it is scored."""

    def forward(self, inputs, queries, documents, mask):
        from lorank.lowrank.routing import conditions

        task = conditions().tasks
        return documents.float() + (100.0 if task is None else 10.0 * task)


def test_each_list_is_scored_on_its_own_route_and_in_its_own_place():
    documents = torch.arange(8).view(4, 2)
    batch = ListBatch(torch.arange(4), documents, torch.zeros(4, 2), torch.ones(4, 2).bool(), None)
    routed = replace(batch, routes=[Route(2), Route(), Route(0), Route(2)])
    shift = torch.tensor([[20.0], [100.0], [0.0], [20.0]])
    torch.testing.assert_close(score_batch(Scorer(), None, routed), documents + shift)
    torch.testing.assert_close(score_batch(Scorer(), None, batch), documents + 100.0)


@pytest.mark.parametrize("kind", [BiEncoder, CrossEncoder])
def test_an_inventory_learns_to_route_by_the_tasks_of_the_rows(bert, tmp_path, kind):
    data = planted(0)
    tasks = {name: {q: "even" if i % 2 else "odd" for i, q in enumerate(s.queries)} for name, s in data.splits.items()}
    data = replace(data, splits={name: replace(s, tasks=tasks[name]) for name, s in data.splits.items()})
    settings = Recipe(
        adapter=AdapterSettings("mhr", rank=2),
        training=OptimizerSettings(steps=4, batch_size=8, lr=1e-2, evaluations=1, warmup=0.0),
        lists=ListSettings(negatives=2, depth=150, spare=1.0),
    )
    ranker = kind(bert)
    settings, budget = resolve_recipe(ranker, data, settings)
    plan = build_plan(ranker, data, settings, budget, tmp_path, None, lambda *_: None)
    train(replace(plan.session(tmp_path, lambda: {}), evaluate=None))
    form = next(iter(plan.weights.adapter.forms.values()))
    assert form.logits.shape[0] == 2
    assert form.logits.abs().sum() > 0
    scores = []
    for task in (0, 1):
        with context(tasks=task):
            scores.append(ranker.score("moon earth", data.documents[:6]))
    assert abs(scores[0] - scores[1]).max() > 1e-6
