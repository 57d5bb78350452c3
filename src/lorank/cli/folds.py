"""`lorank train --folds`: a ranker per fold, and one on all judged queries."""

from pathlib import Path
from typing import TYPE_CHECKING

from lorank.cli.progress import console, progress_bars
from lorank.cli.width import terminal_width

if TYPE_CHECKING:
    from lorank.data.collection import Collection
    from lorank.training.recipe import RecipeFile


def train_on_folds(
    plan: "RecipeFile",
    collection: "Collection",
    folds: int,
    split: str,
    command: str,
    resume: bool,
    overwrite: bool,
) -> None:
    """Train a ranker per fold and one on all queries; print how the pooled answers are judged and where it lies."""
    from lorank.ranking.metrics.table import to_markdown
    from lorank.training.cross_validation import cross_validate

    assert plan.out is not None
    with progress_bars() as on_progress:
        result = cross_validate(
            collection,
            plan,
            folds,
            split,
            Path(plan.out),
            command=command,
            resume=resume,
            overwrite=overwrite,
            on_progress=on_progress,
        )
    print(to_markdown(result.judged, terminal_width()))
    for text in (result.tuned.dev["sentence"], *(gain["sentence"] for gain in result.tuned.gain)):
        console.print(text, soft_wrap=True)
    print(Path(plan.out) / "model")
