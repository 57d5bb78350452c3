r"""monoT5 and duoT5: encoder-decoders that say *true* or *false* of one document, or of the first of two.

    monoT5  Query: q Document: d Relevant:                  score   = logit(true) - logit(false)
    duoT5   Query: q Document0: d_i Document1: d_j Relevant:   p_{ij} = softmax(logit(true), logit(false))[true]

The logits are those of the first token that is decoded. monoT5's score orders as P(true) does; p_ij is the probability
that d_i is more relevant than d_j. The prompts are the files in ``prompts/monot5``.

Paper: R. Nogueira, Z. Jiang, R. Pradeep, J. Lin, Document Ranking with a Pretrained Sequence-to-Sequence Model, 2020,
arXiv:2003.06713; R. Pradeep, R. Nogueira, J. Lin, The Expando-Mono-Duo Design Pattern for Text Ranking, 2021,
arXiv:2101.05667.

*Deviations*: the published code cuts the whole prompt at 512 tokens, at times with its last word; here ``words`` cuts
documents.
"""

import string
from collections.abc import Sequence
from importlib import resources
from typing import Any, ClassVar

from torch import nn

from lorank.errors import UsageError
from lorank.ranking.judges.encoder_decoder import EncoderDecoderJudge
from lorank.ranking.judges.prompts import Prompts
from lorank.ranking.judges.question import Question
from lorank.ranking.scorers.texts import replace_surrogates

ANSWERS = (("true",), ("false",))


class MonoT5Judge(EncoderDecoderJudge):
    """Asks a monoT5 whether one document is relevant.

    Args:
        model: The encoder-decoder, on its device.
        tokenizer: Its tokenizer.
        words: The most words of a document that are shown; None shows all.
        options: Those of a causal judge, but for ``prompts``, which the model was trained on.

    Raises:
        UsageError: If true and false are not one token each in this tokenizer.
    """

    scheme: ClassVar[str] = "monot5"
    kinds = frozenset({"pointwise"})

    def __init__(self, model: nn.Module, tokenizer: Any, *, words: int | None = None, **options: Any) -> None:
        if words is not None and words < 1:
            raise UsageError(f"words must be 1 or above, got {words}")
        super().__init__(model, tokenizer, prompts=read_prompts(words), **options)
        if None in map(self._single_token, ANSWERS):
            raise UsageError(
                f"this tokenizer has no token of its own for true and for false, so the model is no {self.scheme}; "
                "ask it as t5:BASE"
            )

    def prompt(self, query: str, documents: Sequence[str], question: Question) -> str:
        """Return what the encoder reads."""
        shown = [self._line(documents[place]) for place in question.documents]
        fields = dict(zip(("first", "second"), shown)) if question.kind == "pairwise" else {"documents": shown[0]}
        return self.prompts.templates[question.kind].substitute(query=self._line(query, whole=True), **fields)

    def candidates(self, question: Question) -> tuple[list[int], list[float]]:
        """Return the tokens of true and false, and what each stands for."""
        return self._single_tokens(ANSWERS), [1.0, 0.0]

    def _line(self, text: str, whole: bool = False) -> str:
        return " ".join(replace_surrogates(text).split()[: None if whole else self.prompts.words])


class DuoT5Judge(MonoT5Judge):
    """Asks a duoT5 whether the first of two documents is the more relevant one."""

    scheme: ClassVar[str] = "duot5"
    kinds = frozenset({"pairwise"})


def read_prompts(words: int | None = None) -> Prompts:
    """Return the published prompts, of which documents show ``words`` words at most.

    >>> read_prompts().templates["pointwise"].template
    'Query: $query Document: $documents Relevant:'
    """
    folder = resources.files("lorank.ranking.judges") / "prompts" / "monot5"
    kinds = sorted(MonoT5Judge.kinds | DuoT5Judge.kinds)
    texts = {kind: (folder / f"{kind}.txt").read_text(encoding="utf-8").strip() for kind in kinds}
    return Prompts({kind: string.Template(text) for kind, text in texts.items()}, words)
