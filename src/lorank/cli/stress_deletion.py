"""The sixth task of `lorank stress`: rankers trained again without a share of the training data."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from lorank.cli.progress import console, progress_bars
from lorank.tuned.naming import recognise

if TYPE_CHECKING:
    from lorank.training.deletion import DeletionSettings, RetrainingEffect
    from lorank.tuned.stress import Domain, StressReport

TRAINED = ("tuned", "trees")
"""Kinds of rankers that were trained on the collection."""


def check_deletion(names: list[str], wanted: "DeletionSettings | None") -> None:
    """Say what training again costs before anything is read; raise UsageError where nothing can be trained again."""
    if wanted is None:
        return
    from lorank.errors import UsageError
    from lorank.training.deletion import expected_seconds, record_of

    trained = [name for name in names if recognise(name).kind in TRAINED]
    if not trained:
        raise UsageError("--delete-training trains rankers again, and none of these was trained; name a run folder")
    for name in trained:
        named = recognise(name)
        if named.kind == "trees":
            console.print(f"{name} is fitted once more, which takes seconds", soft_wrap=True)
            continue
        if record_of(named) is None:
            raise UsageError(f"{name} has no run.json, so nothing says how it was trained; leave it out")
        seconds = expected_seconds(named, wanted)
        bound = "" if wanted.minutes is None else f", at most {wanted.minutes:g} by --minutes"
        console.print(
            f"{name} is trained once more without {wanted.share:.0%} of the training {wanted.what}: about "
            f"{(seconds or 0) / 60:.1f} min by its record{bound}",
            soft_wrap=True,
        )


def retrain_all(
    results: "dict[str, StressReport]", domain: "Domain", wanted: "DeletionSettings | None", measure: str
) -> "dict[str, RetrainingEffect]":
    """Return what deletion did to each ranker that was trained."""
    if wanted is None:
        return {}
    from lorank.training.deletion import compare_retrained, delete_training_data, train_again

    less = delete_training_data(domain.data, wanted)
    left = len(less.train.queries), len(domain.data.train.queries)
    found = {}
    for name in results:
        named = recognise(name)
        if named.kind not in TRAINED:
            continue
        with tempfile.TemporaryDirectory() as place, progress_bars() as on_progress:
            again = train_again(named, less, Path(place) / "run", wanted, on_progress)
            found[name] = compare_retrained(again, results[name].base, domain, measure, left, wanted.seed, on_progress)
    return found


def deletion_table(found: "dict[str, RetrainingEffect]", wanted: "DeletionSettings | None", head: str) -> list[str]:
    """Return the table of the task in Markdown-free text, nothing where it was not asked for."""
    if wanted is None or not found:
        return []
    first = next(iter(found.values()))
    lines = [
        f"6. without {wanted.share:.0%} of the training {wanted.what} ({first.left:,} of {first.whole:,} training "
        "queries left): drop rate, 95 % interval of the difference, RBO of the lists",
    ]
    lines += [
        f"{head.format(name)}  {each.mean:.4f}  {each.drop:+.1%} [{each.interval[0]:+.4f}, {each.interval[1]:+.4f}] "
        f"rbo {each.moved.rbo:.2f}"
        for name, each in found.items()
    ]
    return ["\n".join(lines)]
