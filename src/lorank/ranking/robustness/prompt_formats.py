r"""Prompt formats that say the same: a grammar of separators, cases and gaps around the same fields.

    prompt := field(Query, $query) gap field(Document, $documents) gap end
    field(name, value) := case(name) separator value

Paper: M. Sclar, Y. Choi, Y. Tsvetkov and A. Suhr, Quantifying Language Models' Sensitivity to Spurious Features in
Prompt Design, ICLR 2024.
"""

import itertools
import re
from dataclasses import dataclass

import numpy as np

from lorank.errors import UsageError

SEPARATORS = (": ", ":", " - ", " :: ", ":\n", "\n\t", " ", "= ")
GAPS = ("\n", " \n", "\n\n", " || ", " , ", " <sep> ")
CASES = ("title", "upper", "lower")
FIELDS = ("query", "document")
VALUES = ("$query", "$documents")


@dataclass(frozen=True)
class PromptFormat:
    """One format: how field names are written, what stands between name and value, and between fields.

    >>> PromptFormat("upper", ": ", "\\n").render("Is it relevant? Answer yes or no.")
    'QUERY: $query\\nDOCUMENT: $documents\\nIs it relevant? Answer yes or no.'
    """

    case: str
    separator: str
    gap: str

    def render(self, end: str = "") -> str:
        """Return the prompt, with ``end`` after the last gap."""
        parts = [
            f"{getattr(name, self.case)()}{self.separator}{value}" for name, value in zip(FIELDS, VALUES, strict=True)
        ]
        return self.gap.join([*parts, end] if end else parts)

    def parse(self, prompt: str) -> dict[str, str]:
        """Return the values of the fields that a prompt of this format holds; the last one ends at the next gap.

        Raises:
            UsageError: For a prompt of another format.
        """
        pattern = re.escape(self.gap).join(
            f"{re.escape(getattr(name, self.case)())}{re.escape(self.separator)}(?P<{name}>.*?)" for name in FIELDS
        )
        found = re.fullmatch(f"{pattern}(?:{re.escape(self.gap)}.*)?", prompt, re.DOTALL)
        if found is None:
            raise UsageError("this prompt is not of the format")
        return found.groupdict()


def all_formats() -> list[PromptFormat]:
    """Return every format of the grammar.

    >>> len(all_formats()) == len(CASES) * len(SEPARATORS) * len(GAPS)
    True
    """
    return [PromptFormat(*parts) for parts in itertools.product(CASES, SEPARATORS, GAPS)]


def draw_formats(count: int, rng: np.random.Generator) -> list[PromptFormat]:
    """Return ``count`` different formats, the plain one (Query: ...) first."""
    plain = PromptFormat("title", ": ", "\n")
    others = [each for each in all_formats() if each != plain]
    if not 0 < count <= len(others) + 1:
        raise UsageError(f"there are {len(others) + 1} formats, not {count}")
    return [plain, *(others[int(i)] for i in rng.permutation(len(others))[: count - 1])]
