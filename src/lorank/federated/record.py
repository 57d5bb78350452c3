"""The record of a federation: its settings and a row per round, with the server's state beside it."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lorank.errors import UsageError
from lorank.federated.server import Server
from lorank.files import write_json

RECORD = "federation.json"


@dataclass
class Round:
    """What happened in a round, by client: bytes each way, mean loss, dev nDCG@10 of the mix and of scores alone."""

    round: int
    up: dict[str, int] = field(default_factory=dict)
    down: dict[str, int] = field(default_factory=dict)
    loss: dict[str, float] = field(default_factory=dict)
    dev: dict[str, float] = field(default_factory=dict)
    alone: dict[str, float] = field(default_factory=dict)
    epsilon: dict[str, float] = field(default_factory=dict)

    def as_plain(self) -> dict[str, Any]:
        """Return the round as JSON-ready data."""
        return {name: value for name, value in vars(self).items() if value or name == "round"}


def claim(out: Path, description: Mapping[str, Any], resume: bool, overwrite: bool) -> list[Round]:
    """Return the rounds that a run to be resumed has, none for a new one."""
    record = out / RECORD
    if record.exists() and overwrite and not resume:
        for name in ("rounds", "clients", "model"):
            shutil.rmtree(out / name, ignore_errors=True)
        record.unlink()
    out.mkdir(parents=True, exist_ok=True)
    if not record.exists():
        return []
    if not resume:
        raise UsageError(
            f"{out} already holds a federation; take it up with --resume, replace it with --overwrite, or choose "
            "another --out"
        )
    known = json.loads(record.read_text(encoding="utf-8"))
    same = json.loads(json.dumps(dict(description)))
    changed = [key for key in same if key != "federation" and known.get(key) != same[key]]
    ours, theirs = dict(same["federation"]), dict(known["federation"])
    changed += [f"federation.{key}" for key in ours if key != "rounds" and ours[key] != theirs.get(key)]
    if changed:
        raise UsageError(f"{out} was begun with another {', '.join(changed)}; resume with the same, or start anew")
    return [Round(**row) for row in known["rounds"]]


def note(out: Path, description: Mapping[str, Any], server: Server, rounds: list[Round]) -> None:
    """Write the server's state, then the record, which is what makes the round count; drop older states."""
    server.save(out / "rounds" / f"{server.round:04d}")
    write_json(out / RECORD, {**description, "rounds": [row.as_plain() for row in rounds]})
    older = out / "rounds" / f"{server.round - 2:04d}"
    shutil.rmtree(older, ignore_errors=True)
