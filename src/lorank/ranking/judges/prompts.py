"""What a language model is shown for each kind of question: templates in files that a user can replace.

A template is a text file named after the kind (``listwise.txt``, ...) with ``$query``, ``$documents`` and ``$count``.
Documents are shown as ``[1] text``, ``[2] text``, ...; the one document of a pointwise question stands alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template

from lorank.errors import DataError, UsageError
from lorank.ranking.judges.question import KINDS, Question


@dataclass(frozen=True)
class Prompts:
    """The templates by kind, and how many words of a document are shown (None for all)."""

    templates: Mapping[str, Template]
    words: int | None = None

    @classmethod
    def load(cls, folder: str | Path | None = None, words: int | None = None) -> "Prompts":
        """Read the packaged templates, and in their place those that ``folder`` holds.

        >>> print(Prompts.load().text("a query", ["one", "two"], Question("setwise", (1, 0))).splitlines()[4])
        [1] two
        """
        if words is not None and words < 1:
            raise UsageError(f"words must be 1 or above, got {words}")
        packaged = resources.files("lorank.ranking.judges") / "prompts"
        texts = {kind: (packaged / f"{kind}.txt").read_text(encoding="utf-8") for kind in sorted(KINDS)}
        if folder is not None:
            texts.update(_own(Path(folder)))
        return cls({kind: Template(text.strip()) for kind, text in texts.items()}, words)

    def text(self, query: str, documents: Sequence[str], question: Question) -> str:
        """Return the prompt of one question."""
        shown = [self._cut(documents[d]) for d in question.documents]
        listed = shown[0] if question.kind == "pointwise" else "\n".join(
            f"[{number}] {text}" for number, text in enumerate(shown, start=1))
        return self.templates[question.kind].substitute(query=query, documents=listed, count=len(shown))

    def _cut(self, text: str) -> str:
        words = text.split()
        return " ".join(words if self.words is None else words[: self.words])


def _own(folder: Path) -> dict[str, str]:
    if not folder.is_dir():
        raise UsageError(f"no folder of prompts at {folder}; give one with files such as listwise.txt")
    own: dict[str, str] = {}
    for path in sorted(folder.glob("*.txt")):
        if path.stem not in KINDS:
            raise DataError(path, None, "no kind of question has this name", f"use one of {', '.join(sorted(KINDS))}")
        text = path.read_text(encoding="utf-8")
        fields = set(Template(text).get_identifiers())
        if not {"query", "documents"} <= fields <= {"query", "documents", "count"}:
            raise DataError(path, None, f"the template has the fields {sorted(fields)}",
                            "write $query and $documents, and $count if you like; a dollar sign is $$")
        own[path.stem] = text
    return own
