"""What may be given where a judge is wanted: a judge, a ranker, or the name of one."""

from collections.abc import Callable
from typing import Any

from lorank.errors import UsageError
from lorank.ranking.judges.judge import Judge
from lorank.ranking.judges.prompts import THOUGHT, Asking
from lorank.ranking.scorers.ranker import Ranker


def _endpoint(place: str, asking: Asking) -> Judge:
    from lorank.ranking.judges.endpoint import open_endpoint

    return open_endpoint(place, asking)


def _causal(base: str, asking: Asking) -> Judge:
    from lorank.ranking.judges.causal import CausalJudge

    return CausalJudge.load(base, **_options(asking))


def _options(asking: Asking) -> dict[str, Any]:
    """Return the options of a local language model that stand in ``asking``."""
    longest = {} if asking.max_tokens is None else {"max_tokens": asking.max_tokens}
    return {"prompts": asking.prompts, "written": THOUGHT if asking.thinking else (), **longest}


def _encoder_decoder(base: str, asking: Asking) -> Judge:
    from lorank.ranking.judges.encoder_decoder import EncoderDecoderJudge

    return EncoderDecoderJudge.load(base, **_options(asking))


def _fusion(base: str, asking: Asking) -> Judge:
    from lorank.ranking.judges.fusion import FusionJudge

    return FusionJudge.load(base, words=None if asking.prompts is None else asking.prompts.words)


def _mono_t5(base: str, asking: Asking) -> Judge:
    from lorank.ranking.judges.monot5 import MonoT5Judge

    return MonoT5Judge.load(base, words=None if asking.prompts is None else asking.prompts.words)


def _duo_t5(base: str, asking: Asking) -> Judge:
    from lorank.ranking.judges.monot5 import DuoT5Judge

    return DuoT5Judge.load(base, words=None if asking.prompts is None else asking.prompts.words)


JUDGES: dict[str, Callable[[str, Asking], Judge]] = {
    "openai": _endpoint,
    "causal": _causal,
    "t5": _encoder_decoder,
    "fid": _fusion,
    "monot5": _mono_t5,
    "duot5": _duo_t5,
}
"""What opens a judge by name: the part before the first colon, to a function of the part after it."""


def judge_of(given: Judge | Ranker | str, asking: Asking | None = None) -> Judge:
    """Return the judge that ``given`` is, wraps, or names (``openai:URL#MODEL``, ``causal:BASE``, ...).

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
            return JUDGES[scheme](rest, asking or Asking())
        known = ", ".join(f"{name}:..." for name in sorted(JUDGES))
        raise UsageError(f"unknown judge {given!r}; give a ranker, a judge, or one of: {known}")
    raise UsageError(f"a judge must be a Judge, a Ranker or a name, got {type(given).__name__}")
