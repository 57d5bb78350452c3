"""From the folder of a cascade to the engine of a server."""

from functools import partial
from typing import Any

from lorank.errors import LorankError, UsageError, unknown_name
from lorank.ranking.scorers import RANKERS
from lorank.ranking.scorers.precision import Dtype
from lorank.serving.adapters.cascade_folder import CascadeFolder, Step
from lorank.serving.adapters.package import read_tuned
from lorank.serving.adapters.source import LocalSource
from lorank.serving.adapters.whole_ranker import WholeRanker, read_home
from lorank.serving.forward.cascade import ADAPTER, CascadeEngine, adapter_of
from lorank.serving.forward.engine import MixedEngine
from lorank.serving.requests.correction import Correction
from lorank.serving.requests.engine import Job

ALL = 1.0
"""A step's engine has one adapter: once it has read some, the adapter is written into a copy of the weights."""


def open_cascade(folder: CascadeFolder, name: str, *, dtype: Dtype, memory_bytes: int) -> CascadeEngine:
    """Return the engine of a cascade, both of whose rankers have scored a document to see that they work.

    Args:
        folder: What the folder says.
        name: What the cascade is called in requests.
        dtype: The format of scoring.
        memory_bytes: The memory of each ranker's adapter.

    Raises:
        UsageError: Where a ranker cannot score.
        LorankError: Where its files are broken.
    """
    first = open_step(folder.first, name, dtype=dtype, memory_bytes=memory_bytes)
    try:
        second = open_step(folder.second, name, dtype=dtype, memory_bytes=memory_bytes, learned_alone=True)
    except BaseException:
        first.close()
        raise
    return CascadeEngine(first, second, Correction(folder.depth, folder.factor, folder.calibration), name)


def open_step(step: Step, name: str, *, dtype: Dtype, memory_bytes: int, learned_alone: bool = False) -> MixedEngine:
    """Return the engine of one ranker of a cascade.

    Args:
        step: Its folder, and how its base is opened.
        name: What the cascade is called in requests.
        dtype: The format of scoring.
        memory_bytes: The memory of its adapter.
        learned_alone: Whether its scores are what it has learned alone, without its mix.

    Raises:
        UsageError: Where it cannot score.
    """
    if step.kind not in RANKERS:
        raise unknown_name("kind", step.kind, list(RANKERS))
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
