"""From the folder of a tuned ranker, or of a cascade of two, to the engine of a server."""

from functools import partial
from typing import Any

from lorank.errors import LorankError, UsageError, unknown_name
from lorank.ranking.scorers import RANKERS
from lorank.ranking.scorers.precision import Dtype
from lorank.serving.adapters.package import read_tuned
from lorank.serving.adapters.source import LocalSource
from lorank.serving.adapters.tuned_folder import Step, TunedFolder
from lorank.serving.adapters.whole_ranker import WholeRanker, read_home
from lorank.serving.forward.engine import MixedEngine
from lorank.serving.forward.tuned import ADAPTER, TunedEngine, adapter_of
from lorank.serving.requests.engine import Job

NOT_SERVED = ("features", "pyramid", "trees")
"""Kinds that score rows of numbers, where the API brings texts, or that the batches do not know how to read."""
ALL = 1.0
"""A step's engine has one adapter: once it has read some, the adapter is written into a copy of the weights."""


def open_tuned(folder: TunedFolder, name: str, *, dtype: Dtype, memory_bytes: int) -> TunedEngine:
    """Return the engine of a folder, each of whose rankers has scored a document to see that it works.

    Args:
        folder: What the folder says.
        name: What the ranker is called in requests.
        dtype: The format of scoring.
        memory_bytes: The memory of each ranker's adapter.

    Raises:
        UsageError: Where a ranker cannot score, or is of a kind that is not served.
        LorankError: Where its files are broken.
    """
    first = open_step(folder.first, name, dtype=dtype, memory_bytes=memory_bytes)
    if folder.second is None:
        return TunedEngine(first, name)
    try:
        second = open_step(folder.second, name, dtype=dtype, memory_bytes=memory_bytes, learned_alone=True)
    except BaseException:
        first.close()
        raise
    return TunedEngine(first, name, second, folder.correction)


def open_step(step: Step, name: str, *, dtype: Dtype, memory_bytes: int, learned_alone: bool = False) -> MixedEngine:
    """Return the engine of one ranker.

    Args:
        step: Its folder, and how its base is opened.
        name: What the whole is called in requests.
        dtype: The format of scoring.
        memory_bytes: The memory of its adapter.
        learned_alone: Whether its scores are what it has learned alone, without its mix.

    Raises:
        UsageError: Where it cannot score, or is of a kind that is not served.
    """
    if step.kind not in RANKERS or step.kind in NOT_SERVED:
        raise unknown_name("kind", step.kind, [name for name in RANKERS if name not in NOT_SERVED])
    ranker: Any = RANKERS[step.kind](step.base, **{**step.options, "dtype": dtype})
    packages = {ADAPTER: partial(read_tuned, step.home, ranker)} if step.adapted else {}
    whole: WholeRanker | None = None if step.adapted else read_home(step.home)
    engine = MixedEngine(
        ranker,
        LocalSource(packages),
        memory=memory_bytes,
        pinned=list(packages),
        base_name=name,
        merged_share=ALL if step.adapted else None,
        whole=whole,
        learned_alone=learned_alone,
    )
    found = engine.score([Job(adapter_of(engine), "is it ready", ["yes"])])[0]
    if isinstance(found, LorankError):
        engine.close()
        raise UsageError(f"{step.home} cannot score: {found}")
    return engine
