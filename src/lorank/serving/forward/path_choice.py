"""Which scoring path a cross-encoder takes on this machine: a short trial on a few of the packaged documents."""

from collections.abc import Callable, Sequence

from lorank.data.load import load
from lorank.ranking.scorers import CrossEncoder
from lorank.ranking.scorers.paths import choose_path, self_test


def fastest_path(ranker: CrossEncoder, say: Callable[[str], None], names: Sequence[str] | None = None) -> str:
    """Return the fastest of the paths ``names`` (default: all) that keeps float32's order, and report what was found.

    A model whose head was drawn at random has no order to keep: its paths differ more than a trained one's.
    """
    data = load("pydocs")
    tested = self_test(ranker, list(data.test.queries.values())[:2], list(data.documents)[:24], names=names)
    for each in tested:
        say(f"{each.name}: " + (each.why_not or f"{each.pairs_per_second:.0f} pairs/s, tau {each.tau:.3f}"))
    chosen = choose_path(tested)
    say(f"scoring by {chosen}")
    return chosen
