"""`--path`: a tuned ranker put on a scoring path, or on the fastest that a self-test finds to keep the order."""

from typing import TYPE_CHECKING

from lorank.cli.progress import console

if TYPE_CHECKING:
    from lorank.training.tuned import TunedRanker


def run_on(model: "TunedRanker", path: str) -> None:
    """Put ``model`` on the path called ``path``; "auto" tests all that can be taken and tells what it found."""
    if path == "auto":
        path = fastest_path(model)
    model.run_on(path)


def fastest_path(model: "TunedRanker") -> str:
    """Return the fastest path that keeps float32's order on some of the packaged documents."""
    import lorank
    from lorank.ranking.scorers.paths import choose_path, self_test
    from lorank.training.tuned import merged

    model.check_paths("auto")
    data = lorank.load("pydocs")
    queries = list(data.test.queries.values())[:4]
    with merged(model.adapter), console.status("trying the scoring paths") as status:
        tested = self_test(model.ranker, queries, list(data.documents)[:40],
                           listen=lambda name: status.update(f"trying {name}"))
    for each in tested:
        found = each.why_not or f"{each.pairs_per_second:.0f} pairs/s, tau {each.tau:.3f}"
        console.print(f"{each.name}: {found}", soft_wrap=True, markup=False)
    chosen = choose_path(tested)
    console.print(f"scoring by {chosen}")
    return chosen
