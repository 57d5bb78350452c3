"""What a language model is shown for each kind of question: templates in files that a user can replace.

A template is a text file named after the kind (``listwise.txt``, ...) with ``$query`` and ``$documents``, and if it
likes ``$count`` and ``$first`` and ``$second``, the identifiers of the first documents. Documents are shown as
``[1] text``, ``[2] text``, ...; the one document of a pointwise question stands alone. ``yes-no.txt`` is the pointwise
question whose answer is read from the logits of yes and no, ``binary.txt`` the one that is answered by 1 or 0, and
``answer.txt`` asks for the query's answer, not for documents.
"""

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template

from lorank.errors import DataError, UsageError
from lorank.ranking.judges.question import KINDS, Question
from lorank.ranking.scorers.texts import replace_surrogates

TEMPLATES = (*sorted(KINDS), "yes-no", "binary", "answer")
"""The names of all templates."""

THOUGHT = frozenset({"setwise", "exclude", "listwise", "groupwise", "selection", "pointwise"})
"""The templates that there are with a thought before the answer, in the folder ``thinking``."""

LETTERS = string.ascii_uppercase
"""Identifiers that are one token each, for questions that are answered by the logits of the first token."""

_OPTIONAL = ("count", "first", "second")


@dataclass(frozen=True)
class Prompts:
    """The templates by kind, and how many words of a document are shown (None for all)."""

    templates: Mapping[str, Template]
    words: int | None = None

    @classmethod
    def load(cls, folder: str | Path | None = None, words: int | None = None, *, thinking: bool = False) -> "Prompts":
        """Read the packaged templates, and in their place those that ``folder`` holds.

        With ``thinking`` the packaged ones ask for a thought before the answer, where the kind has such a template.

        >>> print(Prompts.load().text("a query", ["one", "two"], Question("setwise", (1, 0))).splitlines()[4])
        [1] two
        """
        if words is not None and words < 1:
            raise UsageError(f"words must be 1 or above, got {words}")
        packaged = resources.files("lorank.ranking.judges") / "prompts"
        texts = {name: (packaged / f"{name}.txt").read_text(encoding="utf-8") for name in TEMPLATES}
        if thinking:
            texts |= {
                name: (packaged / "thinking" / f"{name}.txt").read_text(encoding="utf-8") for name in sorted(THOUGHT)
            }
        if folder is not None:
            texts.update(_own(Path(folder)))
        return cls({kind: Template(text.strip()) for kind, text in texts.items()}, words)

    def text(
        self,
        query: str,
        documents: Sequence[str],
        question: Question,
        *,
        template: str | None = None,
        letters: bool = False,
    ) -> str:
        """Return the prompt of one question, by the template of its kind or another.

        Args:
            query: The text of the query.
            documents: The texts of all documents of the session.
            question: The kind of question and the positions of its documents.
            template: The name of a template; None takes that of the question's kind.
            letters: True names the documents by letters, False by numbers.
        """
        shown = [self._cut(documents[d]) for d in question.documents]
        names = LETTERS if letters else [str(number) for number in range(1, max(len(shown), 2) + 1)]
        listed = (
            shown[0]
            if question.kind == "pointwise"
            else "\n".join(f"[{name}] {text}" for name, text in zip(names, shown))
        )
        first, second = (name if letters else f"[{name}]" for name in names[:2])
        return self.templates[template or question.kind].substitute(
            query=replace_surrogates(query), documents=listed, count=len(shown), first=first, second=second
        )

    def _cut(self, text: str) -> str:
        words = replace_surrogates(text).split()
        return " ".join(words if self.words is None else words[: self.words])


@dataclass(frozen=True)
class Asking:
    """How a language model is asked: its ``prompts``, the most tokens of a reply, and an endpoint's patience.

    None stands for what the judge itself takes. With ``thinking`` a local model writes out its answers to the questions
    that ``THOUGHT`` names, whose prompts then ask for a thought first.
    """

    prompts: Prompts | None = None
    max_tokens: int | None = None
    timeout_s: float = 120.0
    retries: int = 4
    thinking: bool = False


def _own(folder: Path) -> dict[str, str]:
    if not folder.is_dir():
        raise UsageError(f"no folder of prompts at {folder}; give one with files such as listwise.txt")
    own: dict[str, str] = {}
    for path in sorted(folder.glob("*.txt")):
        if path.stem not in TEMPLATES:
            raise DataError(path, None, "no kind of question has this name", f"use one of {', '.join(TEMPLATES)}")
        text = path.read_text(encoding="utf-8")
        fields = set(Template(text).get_identifiers())
        if not {"query", "documents"} <= fields <= {"query", "documents", *_OPTIONAL}:
            raise DataError(
                path,
                None,
                f"the template has the fields {sorted(fields)}",
                "write $query and $documents, and $count, $first, $second if you like; a dollar sign is $$",
            )
        own[path.stem] = text
    return own
