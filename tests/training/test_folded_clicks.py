"""Impressions that are folded into one list: the same loss as over all of them, the same positions learned."""

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from lorank.data.click_logs.packed import PackedImpressions
from lorank.errors import UsageError
from lorank.ranking.clicks import SessionBuilder, sessions_of
from lorank.ranking.clicks.core.debiased_loss import DebiasedLoss, unfold
from lorank.ranking.clicks.core.debiaser import Evidence
from lorank.ranking.clicks.core.descent import CurveDescent
from lorank.ranking.clicks.core.noise import click_noise
from lorank.ranking.clicks.core.propensity import Propensities
from lorank.ranking.clicks.debias import DEBIASERS, make_debiaser
from lorank.ranking.losses import loss, requirements_of
from lorank.training.hooks.debiasing import LINEAR, folds_impressions
from lorank.training.lists.batches import pad_lists, share_documents
from lorank.training.lists.folded_clicks import fold_log
from lorank.training.lists.loss_inputs import make_extras
from lorank.training.settings import DebiasSettings, ListSettings, LossSettings, Recipe

CURVE = [1.0, 0.5, 0.25, 0.2]


def packed(rows, positions=None):
    """Return rows (query, documents, clicks) as a packed log."""
    sizes = [len(documents) for _, documents, _ in rows]
    places = [list(range(1, size + 1)) for size in sizes] if positions is None else positions
    return PackedImpressions(
        ["p", "q"],
        np.array([query for query, _, _ in rows], np.int32),
        np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        np.concatenate([documents for _, documents, _ in rows]).astype(np.int32),
        np.concatenate([clicks for _, _, clicks in rows]).astype(np.float32),
        np.concatenate(places).astype(np.int16),
    )


def batch_of(lists, share):
    """Return lists as a grid with what a loss over folded lists requires."""
    query_at = {"p": 0, "q": 1}
    batch = (
        share_documents(lists, query_at, {"p": frozenset(), "q": frozenset()}) if share else pad_lists(lists, query_at)
    )
    return batch, make_extras(frozenset(("columns", "shown_at", "clicked_at")), None, lists, batch, 0)


ROWS = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.permutations(range(4)),
        st.lists(st.integers(0, 1), min_size=4, max_size=4).filter(lambda row: 0 < sum(row) < 4),
    ),
    min_size=1,
    max_size=12,
)


@given(ROWS, st.sampled_from(sorted(LINEAR)), st.booleans(), st.sampled_from(["ips", "none"]))
def test_the_loss_of_folded_lists_is_that_of_all_impressions(rows, name, share, debias):
    documents = {0: [3, 5, 7, 9], 1: [5, 6, 8, 9]}  # the two queries share some
    rows = [(query, [documents[query][i] for i in order], clicks) for query, order, clicks in rows]
    folded = fold_log(packed(rows))
    scores_of = {document: float(np.sin(document)) for own in documents.values() for document in own}
    base, made = loss(name, **LINEAR[name]), make_debiaser(debias, **({"noise": 0.0} if debias == "ips" else {}))
    made.prepare(Evidence(4, curve=Propensities(np.array(CURVE), "given")))

    lists = [folded.list_at(number) for number in folded.epoch_numbers]
    batch, extras = batch_of(lists, share)
    assume(all(len(set((each.clicked_at @ (1 / np.array(CURVE))).round(6))) > 1 for each in lists))
    assume(all(len(set(each.labels.round(6))) > 1 for each in lists))  # a list of equal labels counts nothing
    debiased = DebiasedLoss(base, requirements_of(base), made, propensities=False, folded=True)
    grid = torch.tensor([[scores_of.get(d, 0.0) for d in row] for row in batch.documents.tolist()])
    found = debiased(grid, batch.labels, batch.mask, **extras)

    union = sorted({d for query, _, _ in rows for d in documents[query]})
    total = 0.0
    for query, order, clicks in rows:
        shown = union if share else documents[query]
        row = torch.tensor([[scores_of[d] for d in shown]])
        weights = [1 / CURVE[k] if debias == "ips" else 1.0 for k in range(4)]
        labels = torch.zeros(1, len(shown))
        for k, (document, click) in enumerate(zip(order, clicks, strict=True)):
            labels[0, shown.index(document)] = click * weights[k]
        total += float(base(row, labels, torch.ones_like(row, dtype=torch.bool)))
    assert float(found) * len(lists) / len(folded) == pytest.approx(total / len(rows), rel=1e-4, abs=1e-6)


def test_documents_fold_whatever_their_order_and_other_lists_stay_apart():
    log = packed(
        [
            (0, [1, 2], [1, 0]),
            (0, [2, 1], [0, 1]),
            (0, [1, 3], [1, 0]),
            (1, [1, 2], [1, 0]),
            (0, [2, 1], [1, 0]),
            (0, [1, 2], [0, 1]),
        ],
        positions=[[1, 2], [1, 2], [1, 2], [1, 2], [1, 2], [2, 3]],
    )
    folded = fold_log(log)
    assert sorted(np.diff(folded.offsets).tolist()) == [1, 1, 1, 3]
    largest = folded.list_at(int(np.diff(folded.offsets).argmax()))
    assert largest.documents.tolist() == [1, 2]
    mean, copies = 6 / 4, 2  # 3 impressions where a list has 1.5
    assert largest.shown_at == pytest.approx(np.array([[1, 2], [2, 1]]) / mean / copies)
    assert largest.clicked_at == pytest.approx(np.array([[1, 1], [1, 0]]) / mean / copies)


def test_lists_of_an_epoch_hold_each_query_as_often_as_it_was_asked():
    log = packed([(0, [1, 2], [1, 0])] * 30 + [(1, [4, 5], [0, 1])] * 2)
    folded = fold_log(log)
    lists = [folded.list_at(number) for number in folded.epoch_numbers]
    clicks = {name: sum(float(each.labels.sum()) for each in lists if each.query_id == name) for name in ("p", "q")}
    assert clicks["p"] / clicks["q"] == pytest.approx(30 / 2)
    assert max(float(each.labels.sum()) for each in lists) == pytest.approx(1, rel=0.1)


def test_dual_learning_stands_still_at_the_truth():
    attraction, theta = np.array([0.9, 0.5, 0.1, 0.3]), np.array(CURVE)
    orders = list(permutations(range(4)))[:7]
    shown = np.zeros((4, 4))
    for order in orders:
        shown[list(order), range(4)] += 1 / len(orders)
    clicked = shown * theta * attraction[:, None]
    dla = make_debiaser("dla", ranker_clicks=float("inf"), most=1e6)
    dla.prepare(Evidence(4))
    dla.descent.begin(torch.tensor(np.log(theta)).float())
    table = [torch.tensor(each).float().unsqueeze(0) for each in (shown, clicked)]
    dla.learn(unfold(torch.tensor(np.log(attraction)).float().unsqueeze(0), torch.arange(4).unsqueeze(0), *table), 1.0)
    assert dla.descent.gradient.abs().max() < 1e-6


def test_the_curve_descends_by_as_much_as_over_the_impressions_themselves():
    rng = torch.Generator().manual_seed(0)
    clicks = (torch.rand(6, 4, generator=rng) < 0.5).float()
    scores, positions = torch.zeros(6, 4), torch.arange(1, 5).expand(6, 4)
    made = [CurveDescent(4, 0.1) for _ in range(2)]
    log = packed([(0, [1, 2, 3, 4], row) for row in clicks.int().tolist()])
    batch, extras = batch_of([fold_log(log).list_at(0)], False)
    entries = unfold(torch.zeros(batch.mask.shape), **extras)
    for descent in made:
        descent.begin(torch.tensor([0.0, -0.5, -1.0, -1.5]))
    made[0].learn(entries, entries.labels, 1.0)
    one = type(entries)(scores, clicks, torch.ones(6, 4, dtype=torch.bool), positions)
    made[1].learn(one, clicks, 1.0)
    counted = int((clicks.sum(1) > 0).sum())  # lists without a click do not count where each is an impression
    assert made[0].gradient * 6 / counted == pytest.approx(made[1].gradient)


@pytest.mark.parametrize("name", sorted(DEBIASERS))
def test_impressions_are_folded_where_that_changes_nothing_but_the_noise(name):
    log = packed([(0, [1, 2], [1, 0])])
    asked = Recipe(debias=DebiasSettings(name, "auto"))
    assert folds_impressions(asked, log) == (name in ("none", "ips", "dla", "trust"))
    assert not folds_impressions(asked, None)
    others = (
        Recipe(debias=asked.debias, loss=LossSettings("softmax", {"target": "sampled"})),
        Recipe(debias=asked.debias, loss=LossSettings("ranknet")),
        Recipe(debias=asked.debias, lists=ListSettings(impressions=1)),
        Recipe(debias=asked.debias, lists=ListSettings(negatives=3)),
    )
    assert not any(folds_impressions(other, log) for other in others)


def test_the_rate_of_chance_clicks_is_taken_off_and_only_what_rises_above_it_is_a_target():
    base, made = loss("softmax", target="labels"), make_debiaser("ips", noise=0.2)
    made.prepare(Evidence(3, curve=Propensities(np.array([1.0, 0.5, 0.25]), "given")))
    rate, curve = np.array([0.2, 0.9, 0.1]), np.array([1.0, 0.5, 0.25])
    table = torch.eye(3).unsqueeze(0)  # each document always at its own position
    clicked = table * torch.tensor(rate * curve).float()
    scores = torch.tensor([[0.3, -0.2, 0.1]])
    debiased = DebiasedLoss(base, requirements_of(base), made, propensities=False, folded=True)
    found = debiased(scores, torch.zeros(1, 3), None, columns=torch.arange(3)[None], shown_at=table, clicked_at=clicked)
    assert found == pytest.approx(-float(scores.log_softmax(1)[0, 1]) * (0.9 - 0.2))


@pytest.mark.parametrize("seed", range(3))
def test_the_rate_of_chance_clicks_is_read_from_the_log(seed):
    rng, log = np.random.default_rng(seed), SessionBuilder()
    for _ in range(20_000):
        order = rng.permutation(6)
        attraction = np.where(order == 0, 0.9, 0.15)
        log.add(str(rng.integers(20)), [str(d) for d in order], (rng.random(6) < attraction / np.arange(1, 7)).tolist())
    assert click_noise(log.build(), 1 / np.arange(1, 7)) == pytest.approx(0.15, abs=0.02)
    for name in ("ips", "dla"):
        made = make_debiaser(name)
        made.prepare(Evidence(6, log.build(), Propensities(1 / np.arange(1, 7), "given")))
        assert made.noise == pytest.approx(0.15, abs=0.02)


def test_where_a_quarter_was_never_clicked_nothing_is_chance():
    assert click_noise(sessions_of([("q", ["a", "b", "c"], [1, 1, 0])]), np.ones(3)) == pytest.approx(0)
    with pytest.raises(UsageError, match="noise is 1"):
        make_debiaser("ips", noise=1.0)
    with pytest.raises(UsageError, match="it is auto"):
        make_debiaser("dla", noise="high")


def test_what_is_taken_off_is_clipped_as_the_clicks_are():
    base, made = loss("softmax", target="labels"), make_debiaser("ips", noise=0.2, most=2.0)
    made.prepare(Evidence(2, curve=Propensities(np.array([1.0, 0.1]), "given")))
    table = torch.eye(2).unsqueeze(0)
    clicked = table * torch.tensor([0.2 * 1.0, 0.9 * 0.1])  # the first by chance alone
    scores = torch.tensor([[0.3, -0.2]])
    debiased = DebiasedLoss(base, requirements_of(base), made, propensities=False, folded=True)
    found = debiased(scores, torch.zeros(1, 2), None, columns=torch.arange(2)[None], shown_at=table, clicked_at=clicked)
    assert found == pytest.approx(-float(scores.log_softmax(1)[0, 1]) * (0.9 - 0.2) * 0.1 * 2.0)
