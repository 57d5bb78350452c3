"""Trials on a Ray cluster: each is a task, and one whose worker is lost is run again by Ray.

Data and bases must be readable on every machine. What trials share is made once for each machine and kept there; test
runs come back with the results, so that no folder needs to be shared.
"""

from pathlib import Path
from typing import Any

from lorank.compare.engines import TRIES
from lorank.compare.run_trial import Ended, run_trial, use_threads
from lorank.compare.shared_work import SharedWork
from lorank.compare.trial import Trial
from lorank.errors import UsageError

_SHARED: dict[str, SharedWork] = {}
"""What the worker process has read, by the experiment's folder."""


class RayEngine:
    """Runs trials as tasks of Ray.

    Args:
        out: The experiment's folder.
        workers: How many trials run at once.
        threads: The cores that each of them takes.
        address: The address of the cluster; None starts one on this machine.

    Raises:
        UsageError: Where Ray is not installed.
    """

    def __init__(self, out: Path, workers: int, threads: int = 1, address: str | None = None) -> None:
        self.capacity, self._ray = workers, import_ray()
        self._ours = not self._ray.is_initialized()
        if self._ours:
            self._ray.init(
                address=address,
                num_cpus=workers * threads if address is None else None,
                include_dashboard=False,
                log_to_driver=False,
                logging_level="ERROR",
            )
        self._out, self._threads = str(out.resolve()), threads
        self._task = self._ray.remote(num_cpus=threads, max_retries=TRIES - 1)(run_in_worker)
        self._running: dict[Any, Trial] = {}

    def submit(self, trial: Trial) -> None:
        """Give the trial to the cluster."""
        self._running[self._task.remote(trial, self._out, self._threads)] = trial

    def wait(self) -> tuple[Trial, Ended]:
        """Return the next trial that ends; one whose workers were lost again and again is one that failed."""
        (ready,), _ = self._ray.wait(list(self._running), num_returns=1)
        trial = self._running.pop(ready)
        try:
            return trial, self._ray.get(ready)
        except self._ray.exceptions.RayTaskError as error:
            raise error.as_instanceof_cause() from error
        except self._ray.exceptions.RayError as error:
            why = f"its worker was lost {TRIES} times: {' '.join(str(error).split())[:200]}"
            return trial, Ended({"row": trial.row, "settings": trial.settings, "seconds": 0.0, "failed": why})

    def close(self) -> None:
        """Cancel what is under way, and stop the cluster where it was started here."""
        for running in self._running:
            self._ray.cancel(running, force=True)
        self._running.clear()
        if self._ours:
            self._ray.shutdown()


def import_ray() -> Any:
    """Return Ray; raise UsageError where it is not installed."""
    try:
        import ray
    except ImportError as error:
        raise UsageError("--engine ray needs Ray: pip install 'lorank[cluster]'") from error
    return ray


def run_in_worker(trial: Trial, out: str, threads: int) -> Ended:
    """Run one trial in a worker process of Ray, which keeps what it has read for the next."""
    use_threads(threads)
    shared = _SHARED.setdefault(out, SharedWork(Path(out)))
    return run_trial(trial, shared, Path(out))
