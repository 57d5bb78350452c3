"""`--path`: a tuned ranker put on a scoring path, or on the fastest that a self-test finds to keep the order."""

from functools import partial
from typing import TYPE_CHECKING

from lorank.cli.progress import console

if TYPE_CHECKING:
    from lorank.tuned.ranker import TunedRanker


def run_on(model: "TunedRanker", path: str) -> None:
    """Put ``model`` on the path called ``path``; "auto" tries all that can be taken and tells what it found."""
    from lorank.serving.forward.path_choice import fastest_path
    from lorank.tuned.ranker import merged

    if path == "auto":
        model.check_paths(path)
        with merged(model.adapter), console.status("trying the scoring paths"):
            path = fastest_path(model.ranker, partial(console.print, soft_wrap=True, markup=False))
    model.run_on(path)
