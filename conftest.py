"""What tests and doctests share: threads, the seed each starts from, and how numbers in doctests are compared."""

import logging
import os
import random
import signal
import threading
from collections.abc import Iterator

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


@pytest.fixture(autouse=True)
def global_seed() -> None:
    """Start every test from one state of the global generators, whichever tests ran before it in this process.

    ``LORANK_TEST_SEED`` is that seed, 0 unless it is set: a test must hold for another one as well.
    """
    seed = int(os.environ.get("LORANK_TEST_SEED", "0"))
    random.seed(seed)
    torch.manual_seed(seed)


@pytest.fixture(autouse=True)
def interrupt_handler() -> None:
    """Start every test with Python's own handler of Ctrl-C, whatever a test or a library left in this process."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def caplog(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Let what lorank logs reach ``caplog`` whatever a library has done to the root logger's handlers meanwhile."""
    logger = logging.getLogger("lorank")
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)
    logger.propagate = propagate


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let every doctest compare its numbers as `rounded_doctests` says."""
    for item in items:
        if isinstance(item, pytest.DoctestItem):
            item.runner._checker = RoundedOutputChecker()
