"""Recommenders of sequences: what padding, later items and what was chosen may not change, for every one of them."""

import numpy as np
import pytest
import torch

from lorank.errors import UsageError
from lorank.ranking.losses import loss
from lorank.ranking.recommendation import (
    AdaRetrieval,
    SASRec,
    SequenceSettings,
    best_items,
    next_item_measures,
    padded,
)
from lorank.training.recommendation import train_model
from planted_users import interested_users, on_a_circle, users_of_two_sides

ITEMS = 40
SMALL = SequenceSettings(dim=8, length=6, rounds=3, top=7, steps=20, adapter_steps=10, batch_size=16)


def stirred(model, seed=5):
    """The model with every weight moved, so that adapters do something."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)
    return model.eval()


def made(kind, settings=SMALL, seed=0):
    base = SASRec(ITEMS, settings, seed=seed).eval()
    return stirred(base if kind == "sasrec" else AdaRetrieval(base, settings, seed=seed))


def rows_of(count=9, seed=1):
    rng = np.random.default_rng(seed)
    return [rng.permutation(np.arange(1, ITEMS + 1))[: rng.integers(1, 9)] for _ in range(count)]


every = pytest.mark.parametrize("kind", ["sasrec", "ada-retrieval"])


@every
def test_a_user_does_not_depend_on_the_others_of_a_batch(kind):
    model, rows = made(kind), rows_of()
    together, _ = best_items(model, rows, ITEMS, 7)
    alone = np.concatenate([best_items(model, [row], ITEMS, 7)[0] for row in rows])
    assert (together == alone).mean() > 0.98  # a tie of two scores may go either way


@every
@pytest.mark.parametrize("top", [1, 2, 7, 38])
def test_lists_have_no_duplicates_and_nothing_that_was_chosen(kind, top):
    rows = rows_of()
    found, scores = best_items(made(kind), rows, ITEMS, top)
    assert found.shape == (len(rows), top)
    for row, best, values in zip(rows, found, scores, strict=True):
        kept = best[np.isfinite(values)].tolist()
        assert len(kept) == min(top, ITEMS - len(row))
        assert len(set(kept)) == len(kept)
        assert not {0, *row.tolist()} & set(kept)
        assert (np.diff(values[np.isfinite(values)]) <= 0).all()


def test_with_repeats_what_was_chosen_may_be_found():
    rows = [np.arange(1, ITEMS + 1)[:8] for _ in range(3)]
    found, _ = best_items(made("sasrec"), rows, ITEMS, ITEMS, repeats=True)
    assert all(sorted(best) == list(range(1, ITEMS + 1)) for best in found.tolist())


def test_later_items_change_no_earlier_place():
    model = made("sasrec")
    sequences, _ = padded([np.array([3, 4, 5, 6])], 6)
    other = sequences.clone()
    other[0, 2:] = torch.tensor([9, 10])
    first, second = (model.reader(model.items(each)) for each in (sequences, other))
    torch.testing.assert_close(first[:, :2], second[:, :2])
    assert (first[:, 2:] - second[:, 2:]).abs().max() > 1e-3


def test_ada_retrieval_of_one_round_is_its_base():
    settings = SequenceSettings(dim=8, length=6, rounds=1)
    base = made("sasrec", settings)
    model = stirred(AdaRetrieval(base, settings, seed=1), seed=6)
    rows = rows_of()
    assert np.array_equal(best_items(model, rows, ITEMS, 7)[0], best_items(base, rows, ITEMS, 7)[0])


def test_ada_retrieval_untrained_finds_in_rounds_what_its_base_finds_in_one():
    base, rows = made("sasrec"), rows_of()
    model = AdaRetrieval(base, SMALL).eval()
    for top in (3, 7, 20):
        assert np.array_equal(best_items(model, rows, ITEMS, top)[0], best_items(base, rows, ITEMS, top)[0])


def test_ada_retrieval_rounds_share_the_places_and_know_the_earlier_ones():
    model = made("ada-retrieval")
    sequences, lengths = padded(rows_of(), 6)
    left_out = torch.zeros(len(sequences), ITEMS + 1, dtype=torch.bool)
    found, vectors = model.go(sequences, lengths, left_out, 8)
    assert [each.shape[1] for each in found] == [3, 3, 2]
    again = model.user(sequences, lengths, [found[0]], [vectors[0]])
    torch.testing.assert_close(again, vectors[1])
    other = model.user(sequences, lengths, [found[1]], [vectors[0]])
    assert (other - again).abs().max() > 1e-3


def test_ada_retrieval_item_adapter_is_attention_to_what_was_found():
    model = made("ada-retrieval")
    sequences, lengths = padded([np.array([3, 4])], 6)
    found, former = torch.tensor([[7, 9]]), torch.randn(1, 8, generator=torch.Generator().manual_seed(0))
    x, context = model.base.items(sequences)[0], model.base.items(found)[0]
    match = torch.softmax(x @ context.T / 8**0.5, 1)
    changed = (x + (match @ context) @ model.of_items.weight.T).unsqueeze(0)
    user = model.later(changed)[:, 1]
    state = model.former(former.unsqueeze(1))[1][0]
    expected = user + model.of_users(torch.cat([user, state], 1))
    torch.testing.assert_close(model.user(sequences, lengths, [found], [former]), expected)


def test_adapters_learn_and_their_base_stays(tmp_path):
    rows, items = interested_users(0, users=60, groups=6)
    base = SASRec(items, SMALL)
    train_model(base, rows, SMALL, loss("softmax"), tmp_path)
    before = {name: value.clone() for name, value in base.state_dict().items()}
    model = AdaRetrieval(base, SMALL)
    train_model(model, rows, SMALL, loss("softmax"), tmp_path / "adapters")
    assert all(torch.equal(value, before[name]) for name, value in model.base.state_dict().items())


def test_equal_seeds_give_equal_recommenders(tmp_path):
    rows, items = interested_users(0, users=40, groups=5)
    found = []
    for name in "ab":
        model = SASRec(items, SMALL, seed=3)
        train_model(model, rows, SMALL, loss("softmax"), tmp_path / name, seed=3)
        found.append(model.items.weight.detach())
    assert torch.equal(*found)


def test_a_table_of_items_of_low_rank_has_the_values_of_its_factors_and_learns(tmp_path):
    rows, items = interested_users(0, users=200, groups=8)
    settings = SequenceSettings(dim=16, length=8, steps=300, batch_size=64, rank=8)
    model = SASRec(items, settings, seed=0).eval()
    assert sum(p.numel() for p in model.items.parameters()) == (items + 1) * 8 + 8 * 16 + 16
    history, last = [row[:-1] for row in rows], np.array([row[-1] for row in rows])
    before = next_item_measures(best_items(model, history, items, 10)[0], last)["recall"]
    train_model(model, history, settings, loss("softmax"), tmp_path)
    after = next_item_measures(best_items(model, history, items, 10)[0], last)["recall"]
    assert after > before + 0.2  # 10 of 64 items; a user's items are 16


def test_measures_of_one_relevant_item_by_hand():
    found = next_item_measures(np.array([[5, 1, 2], [1, 2, 3]]), np.array([2, 9]))
    assert found == {"recall": pytest.approx(1 / 2), "nDCG": pytest.approx(1 / np.log2(4) / 2)}


@pytest.mark.parametrize(
    "wrong", [{"dim": 0}, {"rank": 33}, {"heads": 3}, {"rounds": 0}, {"decay": 0.0}, {"dropout": 1.0}]
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(UsageError):
        SequenceSettings(**wrong)


@pytest.mark.slow
def test_ada_retrieval_raises_recall_on_users_of_several_interests(tmp_path):
    """At the defaults. The items' vectors are given and stay, as those of texts or pictures would."""
    gains = []
    for seed in range(3):
        rows, items = users_of_two_sides(seed)
        settings = SequenceSettings()
        base = SASRec(items, settings, seed=seed)
        with torch.no_grad():
            base.items.weight.copy_(on_a_circle(settings.dim))
        base.items.weight.requires_grad_(False)
        history, last = [row[:-1] for row in rows], np.array([row[-1] for row in rows])
        train_model(base, history, settings, loss("softmax"), tmp_path / str(seed), seed=seed)
        model = AdaRetrieval(base, settings, seed=seed)
        train_model(model, history, settings, loss("softmax"), tmp_path / f"{seed}-adapters", seed=seed)
        one, rounds = (
            next_item_measures(best_items(each, history, items, settings.top)[0], last)["recall"]
            for each in (base, model)
        )
        assert one > 0.3
        gains.append(rounds - one)
    assert min(gains) > 0.05
    assert np.median(gains) > 0.1
