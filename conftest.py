"""What tests and doctests share: the number of threads, and numbers in doctests that are compared up to rounding."""

import os
import signal

os.environ["OMP_NUM_THREADS"] = os.environ.get("LORANK_TEST_THREADS", "1")  # for the processes that tests start, too

import pytest
import torch
from hypothesis import settings

from rounded_doctests import RoundedOutputChecker

settings.register_profile("no gate on the wall clock", deadline=None)
settings.load_profile("no gate on the wall clock")
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background: processes that tests start would
    signal.signal(signal.SIGINT, signal.default_int_handler)  # inherit it, and Ctrl-C would mean nothing to them


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let every doctest compare its numbers as `rounded_doctests` says."""
    for item in items:
        if isinstance(item, pytest.DoctestItem):
            item.runner._checker = RoundedOutputChecker()
