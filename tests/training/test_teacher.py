"""A teacher's scores in the place of labels: from a run and from a ranker, negative ones too."""

from pathlib import Path

import numpy as np
import pytest

from lorank.data import write_run
from lorank.data.collection import Collection
from lorank.errors import DataError, UsageError
from lorank.ranking.scorers import BiEncoder
from lorank.training import fit
from lorank.training.plan import build_plan, resolve_recipe
from lorank.training.recipe import RecipeFile, override

pytestmark = pytest.mark.usefixtures("own_cache")
STEPS = {"training.steps": 4, "training.batch_size": 4, "training.lr": 5e-3, "training.evaluations": 1}


def teacher(texts: Collection) -> dict[str, dict[str, float]]:
    """Scores below and above 0 of every document for every training query."""
    rng = np.random.default_rng(3)
    return {q: {d: float(rng.normal()) for d in texts.document_ids} for q in texts.train.queries}


@pytest.mark.parametrize("source", ["first-stage", "live"])
@pytest.mark.parametrize("loss", ["kl", "rcr"])
def test_labels_of_lists_are_the_teachers_scores(
    source: str, loss: str, texts: Collection, bert: str, tmp_path: Path
) -> None:
    scores = teacher(texts)
    write_run(scores, tmp_path / "teacher.run")
    changes = {"lists.teacher": str(tmp_path / "teacher.run"), "loss.name": loss, "lists.negatives_from": source}
    ranker = BiEncoder(bert)
    recipe, budget = resolve_recipe(ranker, texts, override(RecipeFile(), STEPS | changes))
    plan = build_plan(ranker, texts, recipe, budget, tmp_path / "run", None, lambda *said: None)
    drawn = plan.lists.epoch(0)[:3]
    batch = plan.lists.collate(drawn)
    for row, each in enumerate(drawn):
        mask = batch.mask[row]
        found = batch.labels[row][mask].numpy()
        said = np.array([scores[each.query_id][texts.document_ids[d]] for d in batch.documents[row][mask].tolist()])
        assert found == pytest.approx(said if loss == "kl" else 1 / (1 + np.exp(-said)), abs=1e-4)


@pytest.mark.parametrize("loss", ["kl", "margin-mse", "mse", "rcr", "bce"])
def test_each_loss_learns_from_a_ranker(loss: str, texts: Collection, bert: str, tmp_path: Path) -> None:
    changes = {"lists.teacher": "bm25", "loss.name": loss, "keep": "tuned"}
    tuned = fit(BiEncoder(bert), texts, out=tmp_path / "run", recipe=override(RecipeFile(), STEPS | changes))
    assert tuned.adapter is not None
    before = BiEncoder(bert).score("moon earth", texts.documents[:5])
    assert np.abs(tuned.learned.score("moon earth", texts.documents[:5]) - before).max() > 1e-4


def test_what_a_teacher_cannot_be_is_refused(texts: Collection, bert: str, tmp_path: Path) -> None:
    write_run({"train0": {"d0": 1.0}}, tmp_path / "short.run")
    for changes, kind, message in [
        ({"loss.name": "lambda", "lists.teacher": "bm25"}, UsageError, "--loss kl"),
        ({"loss.name": "kl", "lists.teacher": "bm25", "lists.shared": True}, UsageError, "lists.shared"),
        ({"loss.name": "kl", "lists.teacher": str(tmp_path / "short.run")}, DataError, "lacks 11"),
        ({"loss.name": "kl", "lists.teacher": "nowhere/at-all/x"}, Exception, "--teacher"),
    ]:
        with pytest.raises(kind, match=message):
            fit(
                BiEncoder(bert),
                texts,
                out=tmp_path / "r",
                recipe=override(RecipeFile(), STEPS | changes),
                overwrite=True,
            )
