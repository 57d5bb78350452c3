"""What routers are told: nested, by thread, checked."""

import threading

import pytest
import torch
from torch import nn

from lorank import lowrank
from lorank.errors import UsageError
from lorank.lowrank.routing import conditions, context


def test_an_inner_block_changes_only_what_it_says():
    with context(tasks=1, preferences=[0.5, 0.5]), context(tasks=[0, 2]):
        assert conditions().tasks.tolist() == [0, 2]
        assert conditions().preferences.tolist() == pytest.approx([0.5, 0.5])
    assert conditions().tasks is None


def test_another_thread_hears_nothing():
    heard = []
    with context(tasks=3):
        thread = threading.Thread(target=lambda: heard.append(conditions().tasks))
        thread.start()
        thread.join()
    assert heard == [None]


def test_it_is_taken_back_after_an_error():
    with pytest.raises(RuntimeError), context(tasks=3):
        raise RuntimeError
    assert conditions().tasks is None


@pytest.mark.parametrize("preferences", [[0.5, 0.6], [1.5, -0.5]])
def test_preferences_are_weights(preferences):
    with pytest.raises(UsageError, match="sum to 1"), context(preferences=preferences):
        pass


def test_a_wrong_number_of_tasks_names_both_numbers():
    model = nn.Sequential(nn.Linear(6, 5))
    lowrank.attach(model, "mhr", rank=2)
    with context(tasks=[0, 1, 0]), pytest.raises(UsageError, match="3 tasks were given for 2 examples"):
        model(torch.ones(2, 6))
    with context(tasks=7), pytest.raises(UsageError, match="task 7 was given, and there are 2"):
        model(torch.ones(2, 6))
