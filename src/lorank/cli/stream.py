"""`lorank train --then`: one collection after another."""

from pathlib import Path
from typing import TYPE_CHECKING

from lorank.cli.bad_rows import skipping
from lorank.cli.progress import console, progress_bars, stage
from lorank.errors import UsageError

if TYPE_CHECKING:
    from lorank.data.collection import Collection
    from lorank.training.recipe import RecipeFile


def check_stream(plan: "RecipeFile", folds: int | None, save_recipe: Path | None, track: list[str]) -> None:
    """Raise UsageError for what does not go with a stream of collections."""
    if not plan.then:
        raise UsageError(f"--continual {plan.continual.name} is for a stream of collections; give --then")
    for given, flag in (
        (folds, "--folds"),
        (plan.clicks, "--clicks"),
        (save_recipe, "--save-recipe"),
        (track, "--track"),
    ):
        if given:
            raise UsageError(f"{flag} is for one collection, and --then makes a stream; leave one of them out")


def train_on_stream(plan: "RecipeFile", first: "Collection", command: str, resume: bool, overwrite: bool) -> None:
    """Train on the collections one after the other; print the matrix of all test sets and where the ranker lies."""
    import lorank
    from lorank.continual import to_markdown, train_stream
    from lorank.reporting import write_report

    assert plan.out is not None
    collections = [first]
    for source in plan.then:
        with stage(f"read {source}"), skipping(plan.skip_bad, plan.out) as on_bad:
            more = lorank.load(source, negative=plan.negative, on_bad=on_bad, language=plan.language)
        console.print(str(more), soft_wrap=True, markup=False)
        collections.append(more)
    with progress_bars() as on_progress:
        streamed = train_stream(
            plan,
            collections,
            plan.out,
            command=command,
            resume=resume,
            overwrite=overwrite,
            on_progress=on_progress,
        )
    print(to_markdown(streamed.matrix))
    console.print(f"report: {write_report(Path(plan.out))}", soft_wrap=True)
    print(streamed.folder)
