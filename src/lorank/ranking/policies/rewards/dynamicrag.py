r"""DynamicRAG's reward: what a generator makes of the documents that a reply selects.

    exact       1 where the generator's answer is an expected one
    similarity  F1 of its tokens and an expected answer's
    fluency     ROUGE-L to an expected answer
    brevity     1 / (1 + \log(1 + tokens of the answer))
    judge       the generator's own P(yes) that the answer is relevant to the query

each with weight 0.2. Documents that mislead the generator cost; documents that it needs pay. A reply that cannot be
read, or names what was not shown, earns 0.

Paper: J. Sun et al., DynamicRAG: Leveraging Outputs of Large Language Model as Feedback for Dynamic Reranking in
Retrieval-Augmented Generation, 2025.

*Deviations*: the paper's similarity is BERTScore and its judge a larger model; here no second model is asked, so the
similarity is of tokens, and the generator judges itself. See `lorank.ranking.strategies.dynamicrag` for the brevity.
"""

from collections.abc import Sequence

from lorank.ranking.judges.question import Question
from lorank.ranking.judges.reading import read_reply
from lorank.ranking.metrics.answers import exact_match, rouge_l, token_f1
from lorank.ranking.policies.rewards.registry import Asked, Generated, reward
from lorank.ranking.strategies.dynamicrag import brevity

PARTS = ("exact", "similarity", "fluency", "brevity", "judge")


def selected_places(text: str, size: int) -> list[int] | None:
    """Return the places that a reply selects, in its order; None where it has no answer or names what was not shown.

    >>> selected_places("[3] > [1]", 3), selected_places("NONE", 3), selected_places("[4]", 3)
    ([2, 0], [], None)
    """
    said: Sequence[int] | None = read_reply(Question("selection", tuple(range(size))), text)
    if said is None or len(set(said)) != len(said) or not set(said) <= set(range(size)):
        return None
    return list(said)


@reward("dynamicrag", kinds=("selection",), parts=PARTS, weights=(0.2,) * 5, generates=True, empty=True)
def dynamicrag(text: str, asked: Asked) -> list[float]:
    """Return the parts of the reward of one selection; what the generator wrote stands in the question.

    >>> made = Generated("the gold", ("gold",), tokens=0, mark=0.5)
    >>> dynamicrag("[2]", Asked("selection", (0.0, 1.0), generated=made))
    [1.0, 1.0, 1.0, 1.0, 0.5]
    """
    made = asked.generated
    if made is None or selected_places(text, asked.size) is None:
        return [0.0] * len(PARTS)
    return [
        exact_match(made.text, made.expected),
        token_f1(made.text, made.expected),
        rouge_l(made.text, made.expected),
        brevity(made.tokens),
        made.mark,
    ]


__all__ = ["PARTS", "Generated", "dynamicrag", "selected_places"]
