"""Progress bars of forked processes: a child that is killed while it draws one stops nobody else."""

import os
import signal
import subprocess
import sys

import pytest

PROGRAM = """
import os, signal, sys
from tqdm import tqdm
from lorank.progress import unshare_progress_lock

tqdm.get_lock()  # from here on it is there to be shared
child = os.fork()
if child == 0:
    if sys.argv[1] == "own":
        unshare_progress_lock()
    tqdm.get_lock().acquire()
    os.kill(os.getpid(), signal.SIGKILL)
os.waitpid(child, 0)
signal.alarm(2)
list(tqdm(range(3), disable=True))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
@pytest.mark.parametrize(("lock", "code"), [("own", 0), ("shared", -signal.SIGALRM)])
def test_a_child_that_is_killed_while_it_draws_a_bar_stops_its_parent_only_where_the_lock_is_shared(lock, code):
    assert subprocess.run([sys.executable, "-c", PROGRAM, lock], timeout=60).returncode == code


def test_without_progress_bars_nothing_is_imported():
    program = (
        "import sys; from lorank.progress import unshare_progress_lock as u; u(); assert 'tqdm' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0
