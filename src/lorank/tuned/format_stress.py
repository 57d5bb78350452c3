"""The sensitivity of a language model that ranks to the format of its prompt, on pairs of a collection."""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from lorank.errors import UsageError
from lorank.ranking.robustness.formatspread import Spread, format_spread
from lorank.ranking.robustness.prompt_formats import PromptFormat, draw_formats
from lorank.ranking.scorers.causal import CausalRanker
from lorank.ranking.scorers.causal_prompt import Prompt
from lorank.ranking.scorers.ranker import Ranker
from lorank.tuned.ranker import TunedRanker
from lorank.tuned.stress import Domain

END = "Is the document relevant to the query? Answer Yes or No."


def spread_of_formats(
    ranker: Ranker, domain: Domain, count: int, budget: int, *, seed: int = 0
) -> tuple[list[PromptFormat], Spread]:
    """Return the formats that were tried and the spread of their accuracy over pairs of a relevant and another
    document.

    Args:
        ranker: A causal ranker that is asked yes or no.
        domain: The collection; a pair is a query's best relevant candidate and one that is not.
        count: How many formats, the plain one among them, 2 or more.
        budget: How many pairs may be asked in all.
        seed: It draws formats, pairs and posteriors.

    Raises:
        UsageError: For a ranker of another kind, and where no query has a pair.
    """
    model = ranker.ranker if isinstance(ranker, TunedRanker) else ranker
    if not isinstance(model, CausalRanker) or model.view != "yes-no":
        raise UsageError("prompt formats are of language models that answer yes or no (--kind causal)")
    pairs = pairs_of(domain, np.random.default_rng(seed))
    if not pairs:
        raise UsageError("no query has a relevant candidate and one that is not")
    rng = np.random.default_rng(seed)
    formats = draw_formats(count, rng)

    def evaluate(each: PromptFormat, places: np.ndarray) -> np.ndarray:
        variant: Any = copy.copy(model)
        variant.template = Prompt.question(model.tokenizer, each.render(END), model.with_template)
        asked = [pairs[int(i)] for i in places]
        texts = [text for _, one, other in asked for text in (one, other)]
        index = np.array([(i, 2 * i + side) for i in range(len(asked)) for side in (0, 1)], np.int64)
        scores = variant.score_pairs([query for query, _, _ in asked], texts, index).reshape(-1, 2)
        return np.asarray(scores[:, 0] > scores[:, 1])

    return formats, format_spread(evaluate, formats, len(pairs), budget, rng=rng)


def pairs_of(domain: Domain, rng: np.random.Generator) -> Sequence[tuple[str, str, str]]:
    """Return (query, relevant text, other text) of each query that has both among its candidates."""
    found = []
    for query, text in domain.queries.items():
        qrels, row = domain.split.qrels[query], list(domain.candidates[query])
        relevant = [d for d in row if qrels.get(d, 0) > 0]
        others = [d for d in row if qrels.get(d, 0) <= 0]
        if relevant and others:
            chosen = relevant[0], others[int(rng.integers(len(others)))]
            one, other = (str(domain.data.documents[domain.data.position[d]]) for d in chosen)
            found.append((text, one, other))
    return found
