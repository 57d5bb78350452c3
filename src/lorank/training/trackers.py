"""Which experiment trackers there are, by accelerate's names, and whether they are installed; torch is not needed."""

import importlib.util
from collections.abc import Sequence

from lorank.errors import UsageError, unknown_name

PACKAGES = {
    "aim": ("aim",),
    "clearml": ("clearml",),
    "comet_ml": ("comet_ml",),
    "dvclive": ("dvclive",),
    "mlflow": ("mlflow",),
    "swanlab": ("swanlab",),
    "tensorboard": ("tensorboard", "tensorboardX"),
    "trackio": ("trackio",),
    "wandb": ("wandb",),
}
"""Each tracker that accelerate knows, and the packages of which it needs one."""

EXTRAS = ("mlflow", "tensorboard", "wandb")
"""Trackers that are an extra of lorank."""


def check_trackers(names: Sequence[str], flag: str = "--track") -> None:
    """Raise UsageError for a tracker that accelerate does not know, or whose package is not installed.

    >>> check_trackers(["tensorbord"])
    Traceback (most recent call last):
    lorank.errors.UsageError: --track: unknown tracker 'tensorbord'; did you mean 'tensorboard'? known: ...
    """
    for name in names:
        if name not in PACKAGES:
            raise UsageError(f"{flag}: {unknown_name('tracker', name, PACKAGES)}")
        if not any(importlib.util.find_spec(package) for package in PACKAGES[name]):
            package = f"'lorank[{name}]'" if name in EXTRAS else PACKAGES[name][0]
            raise UsageError(f"{flag} {name}: its package is not installed; pip install {package}")
