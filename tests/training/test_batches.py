import numpy as np
import pytest
import torch

from lorank.data.candidates import TrainingList
from lorank.training.lists.batches import epoch_order, pad_lists, share_documents

AT = {"p": 0, "q": 1}


def lists():
    first = TrainingList("p", np.array([5, 2]), np.array([1.0, 0.0], np.float32))
    second = TrainingList("q", np.array([7, 5, 3]), np.array([2.0, 0.0, 0.0], np.float32))
    return [first, second]


def test_padding_is_masked_and_the_rest_stands_in_order():
    batch = pad_lists(lists(), AT)
    assert batch.queries.tolist() == [0, 1]
    assert batch.mask.tolist() == [[True, True, False], [True, True, True]]
    assert batch.documents[0, :2].tolist() == [5, 2]
    assert batch.labels.tolist() == pytest.approx(np.array([[1.0, 0.0, 0.0], [2.0, 0.0, 0.0]]))
    assert batch.first_stage is None


def test_first_stage_scores_follow_their_documents():
    with_offset = [
        TrainingList("p", np.array([4, 9]), np.array([0.0, 1.0], np.float32), np.array([0.5, -0.5], np.float32))
    ]
    assert pad_lists(with_offset, AT).first_stage.tolist() == pytest.approx(np.array([[0.5, -0.5]]))


def test_shared_lists_hold_every_document_once():
    batch = share_documents(lists(), AT, {"p": frozenset({5}), "q": frozenset({7})})
    assert batch.documents.tolist() == [[2, 3, 5, 7]] * 2
    assert batch.labels.tolist() == [[0, 0, 1, 0], [0, 0, 0, 2]]
    assert batch.mask.all()


def test_a_known_relevant_document_of_another_list_is_never_a_negative():
    batch = share_documents(lists(), AT, {"p": frozenset({5, 7}), "q": frozenset({7})})
    assert batch.mask.tolist() == [[True, True, True, False], [True, True, True, True]]
    assert batch.labels[0, 3] == 0


def test_epoch_orders_differ_by_epoch_and_repeat_by_seed():
    assert sorted(epoch_order(50, 0, 1)) == list(range(50))
    assert (epoch_order(50, 0, 1) == epoch_order(50, 0, 1)).all()
    assert (epoch_order(50, 0, 1) != epoch_order(50, 1, 1)).any()
    assert (epoch_order(50, 0, 1) != epoch_order(50, 0, 2)).any()


def test_a_batch_moves_whole():
    moved = pad_lists(lists(), AT).to(torch.device("cpu"))
    assert len(moved) == 2
