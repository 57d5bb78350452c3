"""From a base and a place of adapters to the engine of a server."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lorank.errors import LorankError, UsageError, unknown_name
from lorank.ranking.scorers import RANKERS
from lorank.ranking.scorers.precision import Dtype
from lorank.serving.adapters.package import READ_ALIKE
from lorank.serving.adapters.source import LocalSource, Source
from lorank.serving.adapters.store import FolderStore, open_store
from lorank.serving.forward.engine import MixedEngine
from lorank.serving.forward.path_choice import fastest_path
from lorank.serving.requests.engine import Job
from lorank.tuned.open_ranker import kind_of

NOT_SERVED = ("features", "pyramid", "trees")
"""Kinds that score rows of numbers, where the API brings texts, or that the batches do not know how to read."""


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
    say: Callable[[str], None] = lambda line: None,
) -> MixedEngine:
    """Return a bank of the adapters at ``adapters`` on ``base``, which has scored a document to see that it works.

    The kind of ranker, and how it reads (its length, its pooling, ...), are by default those that the first tuned
    ranker among the adapters was made with; without one the kind is what the base was made for. ``path`` "auto" is
    decided by `lorank.serving.forward.path_choice`, which says what it found.
    """
    source: Source = LocalSource({}) if adapters is None else open_store(adapters)
    about = first_card(source)
    kind = kind or about.get("kind") or kind_of(base)
    if kind not in RANKERS or kind in NOT_SERVED:
        raise unknown_name("kind", kind, [name for name in RANKERS if name not in NOT_SERVED])
    options = {key: value for key, value in about.get("options", {}).items() if key in READ_ALIKE}
    if kind != about.get("kind", kind):
        options = {}
    if max_length is not None:
        options["max_length"] = max_length
    ranker = RANKERS[kind](base, dtype=dtype, **options)
    name = Path(base).resolve().name if Path(base).is_dir() else base
    if path is not None and kind != "cross-encoder":
        raise UsageError(f"--path {path}: a {kind} has no choice of paths; only cross-encoders have")
    if path == "auto":
        path = fastest_path(ranker, say)
        ranker.dtype = "bfloat16" if "bfloat16" in path else ranker.dtype
    bank = MixedEngine(ranker, source, memory=memory_bytes, base_name=name, path=path, merged_share=merged_share)
    found = bank.score([Job(None, "is it ready", ["yes"])])[0]
    if isinstance(found, LorankError):
        raise UsageError(f"{base} cannot score: {found}")
    return bank


def first_card(source: Source) -> dict[str, Any]:
    """Return what the first tuned ranker of a local store says of its base; empty where there is none.

    What cannot be read is passed over here: the bank refuses it by name when it is asked for.
    """
    if not isinstance(source, FolderStore):
        return {}
    for name in source.names():
        try:
            about = json.loads((source.root / name / "lorank.json").read_text())
            if isinstance(about["kind"], str) and isinstance(about["options"], dict):
                return about
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return {}
