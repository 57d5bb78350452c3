"""Following a run with an experiment tracker, through accelerate: loss and rate of each step, dev, the result."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker

from lorank.errors import LorankError
from lorank.training.hooks.hook import Access, Hook, Progress

PROJECT = "lorank"
"""What trackers that have projects call this one."""


class Tracking(Hook):
    """Sends a run's numbers to trackers; it changes nothing in the run.

    Args:
        trackers: Names of accelerate, or trackers of its class ``GeneralTracker``.
        folder: The run folder; trackers that write files write below its ``logs``.
        settings: The recipe as plain data, which trackers keep beside the numbers.
    """

    watches = True

    def __init__(self, trackers: Sequence[str | GeneralTracker], folder: Path, settings: Mapping[str, Any]) -> None:
        self.trackers, self.folder, self.settings = list(trackers), Path(folder), flatten_settings(settings)
        self.accelerator: Accelerator | None = None

    def begin(self, access: Access) -> None:
        """Open the trackers.

        Raises:
            LorankError: Where one cannot be opened, with its own words.
        """
        self.accelerator = Accelerator(log_with=self.trackers, project_dir=str(self.folder / "logs"))
        try:
            self.accelerator.init_trackers(PROJECT, config=self.settings)
        except (OSError, RuntimeError, ValueError, TypeError) as error:
            named = ", ".join(str(getattr(tracker, "name", tracker)) for tracker in self.trackers)
            raise LorankError(f"the tracker cannot be opened ({named}): {error}") from error

    def after_step(self, progress: Progress, optimizer: torch.optim.Optimizer) -> None:
        """Send loss, rate and epoch."""
        self.log({"loss": progress.loss, "lr": progress.lr, "epoch": progress.epoch}, progress.step)

    def after_evaluation(self, progress: Progress) -> None:
        """Send the dev measures."""
        self.log({f"dev/{name}": value for name, value in (progress.dev or {}).items()}, progress.step)

    def log(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Send numbers, where the trackers are open."""
        if self.accelerator is not None:
            self.accelerator.log(dict(values), step=step)

    def close(self, results: Mapping[str, float] | None = None) -> None:
        """Send what came out of the run, and close the trackers."""
        if self.accelerator is None:
            return
        if results:
            self.log(results)
        self.accelerator.end_training()
        self.accelerator = None


def flatten_settings(settings: Mapping[str, Any], before: str = "") -> dict[str, str | int | float | bool]:
    """Return settings as one level of numbers and words, which every tracker takes.

    >>> flatten_settings({"adapter": {"rank": 8, "start": None}, "seed": 0, "grid": [0, 1]})
    {'adapter.rank': 8, 'seed': 0, 'grid': '[0, 1]'}
    """
    found: dict[str, str | int | float | bool] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found |= flatten_settings(value, f"{before}{key}.")
        elif value is not None:
            found[f"{before}{key}"] = value if isinstance(value, str | int | float | bool) else str(value)
    return found
