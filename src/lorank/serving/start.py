"""From a base and a place of adapters to the engine of a server."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lorank.errors import LorankError, UsageError, unknown_name
from lorank.ranking.scorers import RANKERS
from lorank.ranking.scorers.precision import Dtype
from lorank.serving.adapters.inspector import Inspector
from lorank.serving.adapters.package import READ_ALIKE
from lorank.serving.adapters.source import LocalSource, Source
from lorank.serving.adapters.store import MARKS, RUN_MARKS, FolderStore, RemoteStore, open_store
from lorank.serving.adapters.tuned_folder import read_tuned_folder
from lorank.serving.adapters.whole_ranker import read_whole_ranker
from lorank.serving.forward.engine import MixedEngine
from lorank.serving.forward.path_choice import fastest_path
from lorank.serving.forward.tuned import TunedEngine
from lorank.serving.requests.engine import Job
from lorank.serving.tuned import NOT_SERVED, open_tuned
from lorank.tuned.open_ranker import chosen_label, kind_of


def open_engine(
    base: str,
    adapters: str | None,
    *,
    kind: str | None = None,
    max_length: int | None = None,
    dtype: Dtype = "float32",
    memory_bytes: int = 1 << 28,
    path: str | None = None,
    merged_share: float | None = None,
    label: str | None = None,
    say: Callable[[str], None] = lambda line: None,
    options: Mapping[str, Any] | None = None,
    isolated: bool = False,
    may_be_empty: bool = True,
) -> MixedEngine | TunedEngine:
    """Return an engine of the adapters at ``adapters`` on ``base``, which has scored a document to see that it works.

    Args:
        base: The model under all adapters; no adapter changes what it is and how it reads. A run folder whose weights
            were trained whole, or shrunk, stands for the model in it, and answers with its mix, first stage and
            calibration. A tuned ranker with an adapter, and a cascade, are served by themselves.
        adapters: A folder of adapter or run folders, or a URL; None serves the base alone.
        kind: The kind of the ranker; None takes what the base was made for.
        max_length: Tokens that are read of query and document together; None takes the base's own.
        dtype: The format of scoring.
        memory_bytes: The memory of all adapters together.
        path: The scoring path of one model's rows; "auto" is decided by `lorank.serving.forward.path_choice`, which
            says what it found; None takes torch in ``dtype``.
        merged_share: The share of the traffic, above 0.5, from which an adapter gets a merged copy; None for never.
        label: Which label of a classifier of several is the score.
        say: It receives lines for the operator.
        options: How it reads, such as ``pooling``; those of `READ_ALIKE`, where an adapter that was tuned with others
            is refused.
        isolated: True checks every folder in a process of its own before it is opened.
        may_be_empty: Whether a store without an adapter will do.

    A base without a scoring head is served to its adapters, and refused by itself.

    Raises:
        UsageError: the base cannot score, nothing is at ``adapters``, or an option does not exist.
    """
    name = Path(base).resolve().name if Path(base).is_dir() else base
    given = dict(options or {})
    if max_length is not None:
        given["max_length"] = max_length
    tuned = read_tuned_folder(base)
    if tuned is not None:
        stated = {"adapters": adapters, "kind": kind, "label": label, "path": path, "merged_share": merged_share}
        refuse_beside_tuned(base, stated | given)
        return open_tuned(tuned, name, dtype=dtype, memory_bytes=memory_bytes)
    whole = read_whole_ranker(base)
    base = whole.model
    source: Source = LocalSource({}) if adapters is None else open_store(adapters)
    names = source.names()
    if adapters is not None and not may_be_empty and (not names or is_adapter(Path(adapters))):
        raise UsageError(describe_no_adapters(adapters))
    kind = kind or kind_of(base)
    if kind not in RANKERS or kind in NOT_SERVED:
        raise unknown_name("kind", kind, [name for name in RANKERS if name not in NOT_SERVED])
    given |= chosen_label(kind, label)
    wrong = [name for name in given if name not in READ_ALIKE]
    if wrong:
        raise unknown_name("option of reading", wrong[0], READ_ALIKE)
    try:
        ranker = RANKERS[kind](base, dtype=dtype, **given)
    except TypeError as error:
        raise UsageError(f"a {kind} cannot be opened with {given}: {error}") from error
    if path is not None and kind != "cross-encoder":
        raise UsageError(f"--path {path}: a {kind} has no choice of paths; only cross-encoders have")
    if path == "auto":
        path = fastest_path(ranker, say)
        ranker.dtype = "bfloat16" if "bfloat16" in path else ranker.dtype
    inspector = Inspector(ranker, memory_bytes) if isolated and names_a_store(source) else None
    engine = MixedEngine(
        ranker,
        source,
        memory=memory_bytes,
        base_name=name,
        path=path,
        merged_share=merged_share,
        inspector=inspector,
        whole=whole,
    )
    try:
        ready, headless = [Job(None, "is it ready", ["yes"])], engine.loader.base_refusal is not None
        found = (engine.answers(ready) if headless and adapters is not None else engine.score(ready))[0]
        if isinstance(found, LorankError):
            raise UsageError(f"{base} cannot score: {found}")
    except BaseException:
        engine.close()
        raise
    if engine.admission is not None:
        engine.admission.look_at_all()
    return engine


def refuse_beside_tuned(base: str, given: Mapping[str, object]) -> None:
    """Raise UsageError for options that a tuned ranker does not take: its folder says what it is and how it reads.

    Args:
        base: The folder of the ranker.
        given: The options by name; those that are None were not given.
    """
    stated = sorted(name for name, value in given.items() if value is not None)
    if "adapters" in stated:
        raise UsageError(
            f"{base} is a tuned ranker, which is served by itself; to serve it beside others give --base the model "
            "that they were all trained on, and --adapters the folder that holds their folders"
        )
    if stated:
        raise UsageError(
            f"{base} is a tuned ranker, and its folder says what it is and how it reads; leave out {', '.join(stated)}"
        )


def names_a_store(source: Source) -> bool:
    """Return whether there are folders to check, and a way to check them in another process."""
    return isinstance(source, FolderStore | RemoteStore) and hasattr(os, "fork")


def is_adapter(place: Path) -> bool:
    """Return whether a place that should hold adapters is one, or a run folder."""
    run = (place / RUN_MARKS[0]).is_file() and (place / "run.json").is_file()
    return run or any((place / mark).is_file() for mark in MARKS)


def describe_no_adapters(adapters: str) -> str:
    """Return what to say of a place where no adapter is, with what was perhaps meant."""
    here = Path(adapters)
    hint = "give the folder that holds adapter folders, or run folders of `lorank train`"
    if is_adapter(here):
        hint = f"it is itself an adapter: give --adapters {here.resolve().parent}"
    return f"no adapters at {adapters}; {hint}, or --allow-empty where some will come later"
