"""Everything of lorank that writes a file or a folder which it also reads, and what stops a writer, for tests.

As a program (``python file_writers.py kill|random|full FOLDER``) it stops each writer in child processes and prints
what a reader finds afterwards, as JSON.
"""

import json
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from lorank import files, lowrank
from lorank.data.files import json_lines, write_json_lines
from lorank.errors import LorankError
from lorank.lowrank.algebra.sparse import SparseUpdate
from lorank.lowrank.bottleneck import attach_bottlenecks, load_bottlenecks
from lorank.progress import unshare_progress_lock
from lorank.ranking.preferences.lore import PersonalRewards
from lorank.ranking.scorers import BM25
from lorank.ranking.scorers.features.ranker import FeatureRanker
from lorank.training.loop.checkpoints import drop_old_checkpoints, read_checkpoint, write_checkpoint
from lorank.tuned.first_stage import FirstStage
from lorank.tuned.mix import ALONE
from lorank.tuned.ranker import TunedRanker

WIDTH = 96
STEPS = ("fsync", "rename", "replace", "link", "mkdir", "unlink", "rmdir", "open", "chmod")
"""Calls of ``os`` before and after each of which a writer is killed."""


@dataclass(frozen=True)
class Writer:
    """Writes the number ``k`` at a place and reads it back; reading raises where the place is no whole save."""

    write: Callable[[Path, int], object]
    read: Callable[[Path], int]


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH))


def filled(k: int) -> lowrank.Adapter:
    """Return an adapter whose numbers are all ``k`` / 100 and whose alpha is ``k``, so that a mixture shows."""
    adapter = lowrank.attach(model(), "lora", rank=4 + k % 2, alpha=float(k))
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.fill_(k / 100)
    return adapter


def number_in(adapter: lowrank.Adapter) -> int:
    numbers = {round(float(p.detach().flatten()[0]) * 100) for p in adapter.parameters()}
    numbers |= {round(form.alpha) for form in adapter.forms.values()}
    assert len(numbers) == 1, f"mixed: {numbers}"
    return numbers.pop()


def network(k: int) -> FeatureRanker:
    ranker = FeatureRanker(features=4, hidden=(64,), seed=k, transform="none")
    with torch.no_grad():
        for parameter in ranker.module.parameters():
            parameter.fill_(k / 100)
    return ranker


def number_in_network(ranker: FeatureRanker) -> int:
    numbers = {round(float(p.detach().flatten()[0]) * 100) for p in ranker.module.parameters()} | {ranker.seed}
    assert len(numbers) == 1, f"mixed: {numbers}"
    return numbers.pop()


def index(k: int) -> BM25:
    return BM25.index([f"d{i}" for i in range(50)], [f"word{i} number{k}" for i in range(50)])


def number_in_index(found: BM25) -> int:
    (number,) = (term for term in found.statistics.document_frequency if term.startswith("number"))
    assert found.search({"q": number}, top=1)["q"]
    return int(number.removeprefix("number"))


def tuned(k: int) -> TunedRanker:
    return TunedRanker(network(k), None, FirstStage(f"made {k}", (), index(k).statistics), ALONE)


def number_in_tuned(found: TunedRanker) -> int:
    number = number_in_network(found.ranker)
    assert found.first_stage.source == f"made {number}", "mixed"
    return number


def bottlenecks(place: Path, k: int) -> None:
    adapter = attach_bottlenecks(model(), ["0"], width=2 + k % 2)
    adapter.load_state({key: torch.full_like(value, k / 100) for key, value in adapter.state().items()})
    adapter.save(place)


def number_in_bottlenecks(place: Path) -> int:
    return round(float(next(iter(load_bottlenecks(model(), place).state().values())).flatten()[0]) * 100)


def sparse(k: int) -> SparseUpdate:
    return SparseUpdate({"0.weight": (torch.arange(64), torch.full((64,), float(k)))})


def rewards(k: int) -> PersonalRewards:
    return PersonalRewards(torch.full((2, 8), float(k)), torch.full((3, 2), float(k)))


def checkpoint(place: Path, k: int) -> None:
    write_checkpoint(place, f"step-{k:08d}", {"value": torch.full((1000,), float(k))}, {"step": k})
    drop_old_checkpoints(place, keep={f"step-{number:08d}" for number in (5, 7, 9)})


def number_in_checkpoints(place: Path) -> int:
    names = sorted(path.name for path in place.iterdir() if path.name.startswith("step-"))
    for name in names:
        tensors, numbers = read_checkpoint(place / name)
        assert (tensors["value"] == numbers["step"]).all(), "mixed"
    return int(names[0].removeprefix("step-"))  # the oldest: it must have stayed


WRITERS: dict[str, Writer] = {
    "text": Writer(lambda p, k: files.write_text(p, f"{k} " * 3000), lambda p: int(p.read_text().split()[2999])),
    "json lines": Writer(
        lambda p, k: write_json_lines([{"k": k}] * 900, p), lambda p: [row["k"] for _, row in json_lines(p, "k")][899]
    ),
    "adapter": Writer(lambda p, k: filled(k).save(p), lambda p: number_in(lowrank.load(model(), p))),
    "export": Writer(lambda p, k: filled(k).export(p, "peft"), lambda p: number_in(lowrank.load(model(), p))),
    "ranker": Writer(lambda p, k: network(k).save(p), lambda p: number_in_network(FeatureRanker.load(p))),
    "tuned ranker": Writer(lambda p, k: tuned(k).save(p), lambda p: number_in_tuned(TunedRanker.load(p))),
    "index": Writer(lambda p, k: index(k).save(p), lambda p: number_in_index(BM25.load(p))),
    "bottlenecks": Writer(bottlenecks, number_in_bottlenecks),
    "sparse": Writer(lambda p, k: sparse(k).save(p), lambda p: int(SparseUpdate.load(p).entries["0.weight"][1][0])),
    "rewards": Writer(lambda p, k: rewards(k).save(p), lambda p: int(PersonalRewards.load(p).basis[0, 0])),
    "checkpoint": Writer(checkpoint, number_in_checkpoints),
}


@contextmanager
def killed_at(step: int) -> Iterator[list[int]]:
    """Kill this process at the ``step``-th boundary: before and after each call of ``STEPS``, and of the swap."""
    count = [0]

    def boundary() -> None:
        if count[0] == step:
            os.kill(os.getpid(), signal.SIGKILL)
        count[0] += 1

    def bounded(call: Callable) -> Callable:
        def called(*args, **keywords):
            boundary()
            value = call(*args, **keywords)
            boundary()
            return value

        return called

    for name in STEPS:
        setattr(os, name, bounded(getattr(os, name)))
    files.exchange = bounded(files.exchange)
    yield count


def found(writer: Writer, place: Path) -> str:
    """Return what a reader finds: the number, ``absent``, or the error."""
    if not place.exists():
        return "absent"
    try:
        return str(writer.read(place))
    except (LorankError, OSError, ValueError, KeyError, AssertionError) as error:
        return f"BROKEN {type(error).__name__}: {error}"[:200]


def in_child(act: Callable[[], object]) -> int:
    """Run ``act`` in a forked child and return its exit status, negative for a signal."""
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        try:
            act()
        except LorankError:
            os._exit(3)
        finally:
            os._exit(4 if sys.exc_info()[0] else 0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_at_every_step(name: str, folder: Path) -> Counter:
    """Save 7 over 5 and die at the first boundary, then at the second, ... until a save gets through."""
    writer, seen = WRITERS[name], Counter()
    for step in range(10_000):
        home = folder / str(step)
        home.mkdir(parents=True)
        writer.write(home / "a", 5)

        def act(step: int = step, home: Path = home) -> None:
            with killed_at(step):
                writer.write(home / "a", 7)

        status = in_child(act)
        seen[found(writer, home / "a")] += 1
        writer.write(home / "a", 9)  # the next writer cleans up
        left = [path.name for path in home.rglob("*") if path.name.endswith((".tmp", ".old"))]
        seen[f"LEFT {left}"] += bool(left)
        shutil.rmtree(home)
        if status == 0:
            break
    return +seen


def kill_at_random(name: str, folder: Path, kills: int) -> Counter:
    """Kill a child that saves again and again, ``kills`` times; and read beside it all the while."""
    writer, seen, folder = WRITERS[name], Counter(), folder / "random"
    folder.mkdir(parents=True)
    writer.write(folder / "a", 5)
    chance = random.Random(0)
    for _ in range(kills):
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            for k in range(10**6):
                writer.write(folder / "a", (5, 7)[k % 2])
        end = time.monotonic() + 0.03 + 0.06 * chance.random()
        while time.monotonic() < end:
            seen[found(writer, folder / "a")] += 1
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        seen[found(writer, folder / "a")] += 1
    return seen


def fill_the_disk(name: str, folder: Path) -> Counter:
    """Save 7 over 5 with less and less room in files (RLIMIT_FSIZE), until there is none."""
    import resource

    writer, seen = WRITERS[name], Counter()
    writer.write(folder / "a", 5)
    largest = max((p.stat().st_size for p in [folder / "a", *(folder / "a").rglob("*")] if p.is_file()), default=0)
    for room in sorted({0, 1, 16, largest // 2, largest - 1}):
        if room < 0:
            continue

        def act(room: int = room) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
            writer.write(folder / "a", 7)

        status = in_child(act)
        seen[f"status {status}"] += 1
        seen[found(writer, folder / "a")] += 1
    left = [path.name for path in folder.rglob("*") if path.name.endswith((".tmp", ".old"))]
    seen[f"LEFT {left}"] += bool(left)
    return +seen


def main() -> None:
    what, folder, names = sys.argv[1], Path(sys.argv[2]), sys.argv[3:] or list(WRITERS)
    torch.set_num_threads(1)
    np.seterr(all="ignore")
    unshare_progress_lock()  # a child that is killed may hold it
    answers = {}
    for name in names:
        home = folder / name.replace(" ", "-")
        home.mkdir(parents=True)
        act = {"kill": kill_at_every_step, "random": lambda n, f: kill_at_random(n, f, 5), "full": fill_the_disk}[what]
        answers[name] = act(name, home)
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
