r"""TP-GRPO: credit for thoughts, which are runs of steps that are right or wrong together.

    step     a sentence or a line of the reply; verdict +1 where it favours a most relevant passage, -1 where it favours
             another, that of the step before where it says neither, 0 before the first verdict
    thought  a run of steps of one verdict, whose reward r is that verdict
    token    A_t = A + w p ( r_{thought(t)} - \bar{r} ),   \bar{r} over the tokens of the reply

A is the reply's advantage, p the mean reward of the replies to its question: while a policy hardly ever answers it
right, only outcomes count and any way to one may be tried; the more capable it is, the more detours cost. w = 0 is
GRPO, and for any w the mean over the tokens is A.

A step is read by the passages that it names, as [2]. It favours the one passage that it names; with words that reject
(not, irrelevant, less, ...) it speaks against it, which is right of a passage that is not most relevant.

Paper: T. He et al., Good Learners Think Their Thinking: Generative PRM Makes Large Reasoning Model More Efficient Math
Learner, 2025, arXiv:2507.23317.

*Deviations*: the paper's verdicts come from a language model that reads cues in a solution, such as corrections; here
the labels of a ranking question say what is right, and the cues are the names and English words above. The weight that
adapts to capability was reconstructed from the abstract.
"""

import itertools
import re
from collections.abc import Sequence

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.ranking.policies.credits.registry import Reply, credit
from lorank.ranking.policies.rewards import Asked

_END = re.compile(r"[.!?]+\s+|\n+|</think>\s*")
_NAMED = re.compile(r"\[(\d+)\]")
_REJECTS = re.compile(
    r"\b(?:not|no|never|irrelevant|unrelated|off-topic|less|lacks?|fails?|wrong|worse|neither|nothing)\b|n't\b", re.I
)


def split_steps(pieces: Sequence[str]) -> tuple[list[str], list[int]]:
    """Return the steps of a reply, and the number of the step that each token begins in.

    >>> split_steps(["Hm", ". ", "[", "2] fits", "\\n", "[2]"])
    (['Hm. ', '[2] fits\\n', '[2]'], [0, 0, 1, 1, 1, 2])
    """
    text = "".join(pieces)
    ends = [match.end() for match in _END.finditer(text)]
    edges = [0, *(end for end in ends if end < len(text)), len(text)]
    steps = [text[start:end] for start, end in itertools.pairwise(edges)]
    starts = itertools.accumulate((len(piece) for piece in pieces), initial=0)
    places = [sum(edge <= start for edge in edges[1:-1]) for start, _ in zip(starts, pieces)]
    return steps, places


def judge_steps(steps: Sequence[str], asked: Asked) -> list[int]:
    """Return the verdict of each step: 1, -1, or 0 before any passage was named alone.

    >>> judge_steps(["Hm.", "[1] fits.", "But [1] is not on it.", "So:", "[2]"], Asked("setwise", (0.0, 1.0)))
    [0, -1, 1, 1, 1]
    """
    verdicts, last = [], 0
    for step in steps:
        named = {int(number) - 1 for number in _NAMED.findall(step)}
        if len(named) == 1:
            favours = _REJECTS.search(step) is None
            last = 1 if favours == (named.pop() in asked.best) else -1
        verdicts.append(last)
    return verdicts


def merge_thoughts(verdicts: Sequence[int]) -> list[tuple[int, int]]:
    """Return the thoughts: each run of one verdict, with how many steps it has.

    >>> merge_thoughts([0, -1, -1, 1])
    [(0, 1), (-1, 2), (1, 1)]
    """
    return [(verdict, len(list(run))) for verdict, run in itertools.groupby(verdicts)]


@credit("thoughts")
@catalogued(
    "tp-grpo",
    area="losses.rl",
    title="Good Learners Think Their Thinking: Generative PRM Makes Large Reasoning Model More Efficient Math Learner",
)
def thoughts(reply: Reply, *, process: float = 0.5) -> list[float]:
    """Return the advantage of each token, higher in thoughts that are right.

    Args:
        reply: The reply to a setwise question.
        process: w, 0 and up; 0 is GRPO.

    >>> said = Reply(["[1] fits. ", "So: ", "[2]"], Asked("setwise", (0.0, 1.0)), 1.0, 0.75)
    >>> thoughts(said, process=1.0)
    [0.0, 1.5, 1.5]
    """
    if not process >= 0:
        raise UsageError(f"process must be 0 or above; got {process}")
    if not reply.pieces:
        return []
    steps, places = split_steps(reply.pieces)
    runs = merge_thoughts(judge_steps(steps, reply.asked))
    of_step = [verdict for verdict, count in runs for _ in range(count)]
    rewards = [of_step[place] for place in places]
    mean = sum(rewards) / len(rewards)
    return [reply.advantage + process * reply.rate * (own - mean) for own in rewards]
