"""`lorank train --cascade`: a bi-encoder over the first stage, and a cross-encoder over its best."""

from pathlib import Path
from typing import TYPE_CHECKING

from lorank.cli.progress import console, progress_bars
from lorank.cli.width import terminal_width
from lorank.errors import UsageError

if TYPE_CHECKING:
    from lorank.data.collection import Collection
    from lorank.training.recipe import RecipeFile


def check_cascade_options(plan: "RecipeFile", folds: int | None, save_recipe: Path | None, track: list[str]) -> None:
    """Raise UsageError for settings and options that make no sense with a cascade, or without one."""
    from lorank.training.cascade.settings import check_cascade

    check_cascade(plan)
    if not plan.cascade.enabled:
        return
    if folds is not None:
        raise UsageError(
            "--folds trains one ranker for each fold, and --cascade two; give a collection with a dev split"
        )
    if save_recipe is not None:
        raise UsageError("--save-recipe settles one ranker, and --cascade trains two; leave one of them out")
    if track:
        raise UsageError("--track follows one run, and --cascade trains two rankers; leave one of them out")


def train_a_cascade(plan: "RecipeFile", data: "Collection", command: str, resume: bool, overwrite: bool) -> None:
    """Train a cascade; print what each step gained and costs, how the whole is judged on test, and where it lies."""
    from lorank.ranking.metrics.table import to_markdown
    from lorank.training.cascade.fitting import fit_cascade
    from lorank.training.cascade.steps import steps_table

    assert plan.out is not None
    with progress_bars() as on_progress:
        done = fit_cascade(
            plan,
            data,
            plan.out,
            command=command,
            resume=resume,
            overwrite=overwrite,
            on_progress=on_progress,
        )
    print(steps_table(done.steps))
    if done.judged is not None:
        print(f"\n{to_markdown(done.judged, terminal_width())}")
    for text in (
        *(step.sentence for step in done.steps),
        *(gain["sentence"] for gain in done.tuned.gain),
        *done.notes,
    ):
        console.print(text, soft_wrap=True, markup=False)
    print(Path(plan.out) / "model")
