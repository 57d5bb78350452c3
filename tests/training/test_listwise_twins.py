"""E2Rank trains by the one loop: each query stands twice, plainly and as a prompt, and its folder reranks."""

from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

import lorank
from lorank.cli.app import app
from lorank.data import write_beir, write_run
from lorank.data.candidates import TrainingList
from lorank.errors import UsageError
from lorank.ranking.scorers import BiEncoder, CrossEncoder
from lorank.ranking.strategies.e2rank import fitting_prompt
from lorank.training.lists.batches import share_documents
from lorank.training.lists.listwise import make_twins, own_places
from lorank.training.settings import Recipe


def recipe_of(steps, **options):
    recipe = Recipe()
    return replace(
        recipe,
        loss=replace(recipe.loss, name="e2rank", options=options),
        training=replace(recipe.training, steps=steps, batch_size=8, evaluations=1),
    )


def test_a_twin_is_its_query_as_a_prompt_with_the_same_judgments_and_candidates(texts, tiny_folders):
    ranker, split = BiEncoder(tiny_folders["bert"]), texts.train
    run = {query: {f"d{i}": float(i) for i in range(9)} for query in split.queries}
    twins, rows = make_twins(ranker, texts, split, run, recipe_of(1, feedback=2))
    assert len(twins.queries) == len(split.queries)
    assert not twins.queries.keys() & split.queries.keys()
    for (query, text), (twin, prompt) in zip(split.queries.items(), twins.queries.items(), strict=True):
        listed = [texts.documents[texts.position[d]] for d in ("d8", "d7")]
        assert prompt == fitting_prompt(ranker)(text, listed)
        assert twins.qrels[twin] == split.qrels[query]
        assert rows[twin] == run[query]


def test_only_the_own_documents_of_a_twin_are_its_places():
    lists = [
        TrainingList(query, np.array(documents), np.array([1.0, 0.0], np.float32))
        for query, documents in (("a", [3, 5]), ("b\tlistwise", [5, 8]))
    ]
    batch = share_documents(lists, {"a": 0, "b\tlistwise": 1}, {"a": frozenset({3}), "b\tlistwise": frozenset({5})})
    assert batch.documents[0].tolist() == [3, 5, 8]
    assert own_places(lists, batch).tolist() == [[False] * 3, [False, True, True]]


def test_it_trains_and_reranks_from_the_command_line(texts, tiny_folders, tmp_path):
    write_beir(texts, tmp_path / "beir")
    write_run({q: {f"d{i}": 40.0 - i for i in range(12)} for q in texts.test.queries}, tmp_path / "first.run")

    def run(*arguments):
        return CliRunner().invoke(app, [str(each) for each in arguments])

    data, out = ["--data", tmp_path / "beir"], tmp_path / "run"
    done = run(
        "train",
        *data,
        "--base",
        tiny_folders["bert"],
        "--kind",
        "bi-encoder",
        "--loss",
        "e2rank",
        "--set",
        "loss.feedback=3",
        "--steps",
        4,
        "--batch-size",
        6,
        "--out",
        out,
    )
    assert done.exit_code == 0, (done.output, done.exception)
    for strategy in ([], ["--strategy", "e2rank", "--option", "feedback=3"]):
        done = run(
            "rerank", *data, "--run", tmp_path / "first.run", "--ranker", out, *strategy, "--out", tmp_path / "o.run"
        )
        assert done.exit_code == 0, (done.output, done.exception)
    refused = run(
        "train",
        *data,
        "--base",
        tiny_folders["bert"],
        "--kind",
        "cross-encoder",
        "--loss",
        "e2rank",
        "--steps",
        1,
        "--out",
        tmp_path / "no",
    )
    assert isinstance(refused.exception, UsageError)
    assert "use --kind bi-encoder" in str(refused.exception)


def test_what_does_not_go_with_twins_is_refused(texts, tiny_folders, tmp_path):
    recipe = recipe_of(1)
    given = replace(recipe, lists=replace(recipe.lists, negatives_from="static"))
    with pytest.raises(UsageError, match="loss 'e2rank' does not go with lists.negatives_from = 'static'"):
        lorank.fit(BiEncoder(tiny_folders["bert"]), texts, recipe=given, out=tmp_path / "x")
    with pytest.raises(UsageError, match="use --kind bi-encoder"):
        lorank.fit(CrossEncoder(tiny_folders["bert"]), texts, recipe=recipe, out=tmp_path / "y")
