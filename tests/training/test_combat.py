"""sparta through the loop: tiny models duel, vote, and learn from who won."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest
from transformers import LlamaConfig

from lorank.catalogue import METHODS
from lorank.data.rows import read_rows
from lorank.errors import LorankError, UsageError
from lorank.ranking.judges import Judge, Question, Reply
from lorank.ranking.preferences.perl import draw_replies
from lorank.ranking.scorers import CausalRanker
from lorank.training import AdapterSettings, LossSettings, OptimizerSettings, Recipe, fit
from lorank.training.methods.sparta import align_by_combat, ask_for_score, write_pairs
from lorank.tuned.export import export
from tiny_causals import SIZES, write_causal

EARLY, LATE = "abAB", "yzYZ"

QUICK = Recipe(
    adapter=AdapterSettings("lora", rank=8),
    training=OptimizerSettings(steps=16, batch_size=8, lr=1e-2, evaluations=1, precision="fp32"),
)


class Liking(Judge):
    """Scores a reply by its letters, early ones for it and all others against it; a contrary judge the other way."""

    kinds = frozenset({"pointwise"})

    def __init__(self, contrary):
        self.contrary = contrary

    def answer(self, query, documents, questions):
        for question in questions:
            score = liked(documents[question.documents[0]])
            yield Reply(-score if self.contrary else score, 1, 1)


def liked(reply):
    return sum(1 if letter in EARLY else -1 for letter in reply)


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """One model that has learned to write letters early and late in the alphabet, four times."""
    folder, draw = tmp_path_factory.mktemp("combat"), random.Random(0)
    write_causal(folder / "raw", LlamaConfig(**{**SIZES, "hidden_size": 64, "initializer_range": 0.2}), spread=0.0)
    path = folder / "rows.jsonl"
    path.write_text(
        "".join(
            json.dumps({"query": f"p{i % 12}", "docs": ["".join(draw.choices(EARLY + LATE, k=2))], "labels": [1]})
            + "\n"
            for i in range(100)
        )
    )
    recipe = replace(QUICK, training=replace(QUICK.training, steps=80, batch_size=16), loss=LossSettings("sft"))
    tuned = fit(
        CausalRanker(folder / "raw", view="log-ratio", beta=1.0), read_rows(path), out=folder / "run", recipe=recipe
    )
    export(tuned, folder / "writer", "merged", limit=0.01)
    return [folder / "writer"] * 4


def earned(ranker):
    return np.mean([liked(reply) for seed in range(4) for reply in draw_replies(ranker, "p0", 50, 2, seed)])


@pytest.mark.slow
def test_sparta_teaches_every_model_what_the_weighted_vote_prefers(bases, tmp_path):
    assert METHODS["sparta"].area == "losses.preference"
    before = earned(CausalRanker(bases[0], view="log-ratio"))
    combat = align_by_combat(
        bases,
        [f"p{i}" for i in range(12)],
        tmp_path / "run",
        rounds=2,
        per_round=60,
        recipe=QUICK,
        judging=lambda number, model: Liking(number == 3),
        max_tokens=2,
        beta=0.2,
    )
    after = [earned(tuned.ranker) for tuned in combat.models]
    assert min(after) > before + 0.3  # of -2 to 2
    assert combat.reputations.values.sum() == pytest.approx(0.0, abs=1e-9)
    for number, fought in enumerate(combat.rounds, start=1):
        lines = (tmp_path / "run" / f"round-{number}" / "pairs.jsonl").read_text().splitlines()
        assert [json.loads(line) for line in lines] == [row for each in fought if (row := each.row) is not None]
        for each in fought:
            assert each.share == pytest.approx(each.weights @ each.votes)
            if each.row is not None:
                assert (each.row["chosen"] == each.replies[0]) == (each.share > 0.5)


def test_a_model_judges_by_the_score_that_it_is_asked_for(bases):
    model = CausalRanker(bases[0], view="log-ratio")
    judge = ask_for_score(0, model)
    questions = [Question("pointwise", (i,)) for i in range(2)]
    scores = [reply.value for reply in judge.answer("p", ["one", "two"], questions)]
    assert all(0 <= score <= 10 for score in scores)
    expected = CausalRanker(bases[0], view="expected").score("p", ["one", "two"])
    np.testing.assert_allclose(scores, expected, atol=1e-4)


def test_rounds_without_a_winner_and_too_few_models_are_refused(bases, tmp_path):
    with pytest.raises(LorankError, match="none of 0 duels"):
        write_pairs([], tmp_path / "pairs.jsonl")
    with pytest.raises(UsageError, match="three models"):
        align_by_combat(bases[:2], ["p"], tmp_path / "run")
