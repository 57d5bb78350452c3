"""What may be given where a judge is wanted: a judge, a ranker, or the name of one."""

from collections.abc import Callable

from lorank.errors import UsageError
from lorank.ranking.judges.judge import Judge
from lorank.ranking.scorers.ranker import Ranker


def _endpoint(place: str) -> Judge:
    from lorank.ranking.judges.endpoint import open_endpoint

    return open_endpoint(place)


def _local(base: str) -> Judge:
    from lorank.ranking.judges.causal import CausalJudge

    return CausalJudge.load(base)


JUDGES: dict[str, Callable[[str], Judge]] = {"openai": _endpoint, "local": _local}
"""What opens a judge by name: the part before the first colon, to a function of the part after it."""


def judge_of(given: Judge | Ranker | str) -> Judge:
    """Return the judge that ``given`` is, wraps, or names.

    >>> from lorank.ranking.judges import Oracle
    >>> judge_of(Oracle([1])).labels.tolist()
    [1.0]
    """
    if isinstance(given, Judge):
        return given
    if isinstance(given, Ranker):
        from lorank.ranking.judges.ranker_judge import RankerJudge

        return RankerJudge(given)
    if isinstance(given, str):
        scheme, _, rest = given.partition(":")
        if scheme in JUDGES and rest:
            return JUDGES[scheme](rest)
        known = ", ".join(f"{name}:..." for name in sorted(JUDGES)) or "none is known by name"
        raise UsageError(f"unknown judge {given!r}; give a ranker, a judge, or one of: {known}")
    raise UsageError(f"a judge must be a Judge, a Ranker or a name, got {type(given).__name__}")
