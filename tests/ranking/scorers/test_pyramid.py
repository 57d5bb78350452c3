"""baidu-plm-ranking: the pyramid reads less for the same tokens, sees the planted sentence, and trains like others."""

import json

import numpy as np
import pytest
import torch

from lorank.catalogue import METHODS
from lorank.errors import UsageError
from lorank.ranking.losses.anchored import anchored_hinge
from lorank.ranking.scorers import RANKERS, CrossEncoder, PyramidEncoder
from lorank.ranking.scorers.packed import PackedEncoder, PackedLayer
from lorank.ranking.scorers.pyramid import attention_products
from lorank.training import fit, load_ranker
from lorank.training.settings import ListSettings, OptimizerSettings, Recipe

QUERY = "how are documents ordered"
DOCUMENTS = [
    "sorting a list\nrankers order documents. the moon orbits the earth.",
    "the moon",
    "",
    "a document\n",
    "\nread together",
    "rankers\n"
    + "the earth and the sun and the moon. " * 6
    + "documents are ordered by a query. "
    + "x of the list. " * 8,
]


def made(folder, kind=PyramidEncoder, **options):
    ranker = kind(folder, head="random", seed=3, **options)
    with torch.no_grad():
        for _, parameter in ranker.head_parameters():
            parameter.mul_(20.0)
    return ranker


@pytest.mark.parametrize(("name", "separator"), [("bert", "[SEP]"), ("roberta", "</s>"), ("xlm-roberta", "</s>")])
def test_without_low_layers_it_is_the_cross_encoder(tiny_folders, name, separator):
    pyramid = made(tiny_folders[name], low=0, summary=20)
    cross = made(tiny_folders[name], CrossEncoder)
    for title, body in (("a list", "the moon orbits"), ("rankers", "x")):
        expected = cross.score(QUERY, [f"{title}{separator}{body}"])
        read = pyramid.assemble(pyramid.prepare([QUERY], [f"{title}\n{body}"]), np.array([[0, 0]]))
        assert read.whole.lengths[0] > read.first[0] > 0
        np.testing.assert_allclose(pyramid.score(QUERY, [f"{title}\n{body}"]), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("low", [0, 1])
def test_attention_takes_as_many_products_as_the_formula_says(tiny_folders, monkeypatch, low):
    counted = []
    weigh = PackedLayer.weigh

    def counting(layer, q, k, v, group):
        counted.append(q.shape[0] * q.shape[2] * k.shape[2])
        return weigh(layer, q, k, v, group)

    monkeypatch.setattr(PackedLayer, "weigh", counting)
    pyramid = made(tiny_folders["bert"], low=low, summary=24)
    batch = pyramid.assemble(pyramid.prepare([QUERY], DOCUMENTS[-1:]), np.array([[0, 0]]))
    with torch.inference_mode():
        pyramid.logits(batch, PackedEncoder(pyramid.module.base_model))
    a, b = int(batch.first[0]), int(batch.second[0])
    only_first_token = (a + b) ** 2 - (a + b)  # of the last layer the head reads one
    assert sum(counted) == attention_products(a, b, layers=2, low=low) - only_first_token
    assert attention_products(a, b, layers=2, low=1) < attention_products(a, b, layers=2, low=0)


def test_half_the_layers_apart_with_equal_parts_save_a_quarter():
    assert attention_products(64, 64, layers=12, low=6) == pytest.approx(
        0.75 * attention_products(64, 64, layers=12, low=0)
    )
    assert attention_products(100, 0, layers=4, low=3) == attention_products(100, 0, layers=4, low=0)


def test_parts_do_not_see_each_other_below(tiny_folders):
    """The first layer's states of query and title are the same whatever the summary is."""
    pyramid = made(tiny_folders["bert"], low=1, summary=20)
    seen = []
    for body in ("the moon", "sorting words"):
        batch = pyramid.assemble(pyramid.prepare([QUERY], [f"a list\n{body}"]), np.array([[0, 0]]))
        encoder = PackedEncoder(pyramid.module.base_model)
        first, rest = encoder.layers
        encoder.layers = [
            lambda h, groups, firsts, layer=first, n=int(batch.first[0]): (
                seen.append(layer(h, groups, firsts)[:n]) or layer(h, groups, firsts)
            ),
            rest,
        ]
        with torch.inference_mode():
            score = pyramid.logits(batch, encoder)
        seen.append(score)
    assert torch.equal(seen[0], seen[2])
    assert not torch.equal(seen[1], seen[3])


@pytest.mark.parametrize("name", ["bert", "roberta", "xlm-roberta"])
def test_scores_do_not_depend_on_order_or_company_and_train_as_they_score(tiny_folders, name):
    pyramid = made(tiny_folders[name], summary=24)
    scores = pyramid.score(QUERY, DOCUMENTS)
    assert np.isfinite(scores).all()
    np.testing.assert_allclose(pyramid.score(QUERY, DOCUMENTS[::-1])[::-1], scores, atol=1e-5)
    alone = [pyramid.score(QUERY, [document])[0] for document in DOCUMENTS]
    np.testing.assert_allclose(alone, scores, atol=1e-5)
    inputs = pyramid.prepare([QUERY], DOCUMENTS)
    places = torch.arange(6).expand(1, 6)
    mask = torch.tensor([[True] * 5 + [False]])
    grid = pyramid.forward(inputs, torch.tensor([0]), places, mask)
    np.testing.assert_allclose(grid.detach()[0, :5], scores[:5], atol=1e-5)
    assert grid[0, 5] == 0
    grid.sum().backward()
    assert pyramid.module.base_model.encoder.layer[0].attention.self.query.weight.grad.abs().sum() > 0


def test_a_sentence_far_beyond_the_room_is_read(tiny_folders):
    pyramid = made(tiny_folders["bert"], summary=16)
    filler = "the moon and the sun and the earth. " * 30
    planted = pyramid.score(QUERY, [f"x\n{filler}documents are ordered. {filler}", f"x\n{filler}{filler}"])
    assert abs(planted[0] - planted[1]) > 1e-3
    cut = made(tiny_folders["bert"], CrossEncoder)
    same = cut.score(QUERY, [f"x\n{filler}documents are ordered. {filler}", f"x\n{filler}{filler}"])
    assert same[0] == pytest.approx(same[1], rel=1e-5)
    assert pyramid.truncation([QUERY], [filler, "short"]).truncated == 1


def test_saved_and_opened_again(tiny_folders, tmp_path):
    pyramid = made(tiny_folders["bert"], low=1, summary=24, decay=0.25)
    pyramid.save(tmp_path / "model")
    again = PyramidEncoder.load(tmp_path / "model")
    assert json.loads(json.dumps(again.options())) == pyramid.options()
    np.testing.assert_allclose(again.score(QUERY, DOCUMENTS), pyramid.score(QUERY, DOCUMENTS), rtol=1e-5, atol=5e-6)
    assert RANKERS["pyramid"] is PyramidEncoder
    assert METHODS["baidu-plm-ranking"].location.endswith(":PyramidEncoder")


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("deberta-v2", {}, "made of BERT"),
        ("bert", {"low": 2}, "the last layer reads all together"),
        ("bert", {"summary": 78}, "must leave some"),
        ("bert", {"decay": 1.5}, "decay is from 0 to 1"),
    ],
)
def test_wrong_use_is_refused(tiny_folders, name, options, says):
    with pytest.raises(UsageError, match=says):
        PyramidEncoder(tiny_folders[name], **{"summary": 24, **options})
    with pytest.raises(UsageError, match="strings"):
        PyramidEncoder(tiny_folders["bert"], summary=24).prepare([], np.zeros((1, 2)))


def test_it_trains_by_the_one_loop_with_an_adapter_and_the_anchored_loss(tiny_folders, texts, tmp_path):
    recipe = Recipe(training=OptimizerSettings(steps=4, batch_size=4, evaluations=1), lists=ListSettings(negatives=3))
    tuned = fit(
        PyramidEncoder(tiny_folders["bert"], summary=24),
        texts,
        "lora",
        "anchored-hinge",
        2,
        out=tmp_path / "run",
        recipe=recipe,
    )
    query, part = next(iter(texts.test.queries.values())), list(texts.documents[:5])
    again = load_ranker(tmp_path / "run")
    assert isinstance(again.ranker, PyramidEncoder)
    np.testing.assert_allclose(again.score(query, part), tuned.score(query, part), rtol=1e-5, atol=5e-6)
    assert any("loss" in json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines())


def test_grades_are_learned(tiny_folders):
    pyramid = made(tiny_folders["bert"], low=1, summary=24)
    inputs, mask = pyramid.prepare([QUERY], DOCUMENTS), torch.ones(1, 6, dtype=torch.bool)
    labels, places = torch.tensor([[2.0, 0.0, 0.0, 1.0, 0.0, 3.0]]), torch.arange(6).view(1, 6)
    optimizer, losses = torch.optim.Adam(pyramid.module.parameters(), lr=2e-3), []
    for _ in range(30):
        optimizer.zero_grad()
        scores = pyramid.forward(inputs, torch.tensor([0]), places, mask)
        losses.append(anchored_hinge(scores, labels))
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.2 * losses[0]
    assert pyramid.score(QUERY, DOCUMENTS).argmax() == 5
