"""What an import found, made and left out, for people and as JSON."""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Summary:
    """Counts of what was read and written; ``dropped`` says what was left out, ``notes`` what to know."""

    files: dict[str, int] = field(default_factory=dict)
    pages: int = 0
    documents: int = 0
    queries: int = 0
    judgments: int = 0
    splits: dict[str, dict[str, int]] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def drop(self, what: str, example: str = "", count: int = 1) -> None:
        """Count something left out, and keep the first three examples."""
        self.dropped[what] = self.dropped.get(what, 0) + count
        shown = self.examples.setdefault(what, [])
        if example and len(shown) < 3:
            shown.append(example)

    def as_dict(self) -> dict[str, Any]:
        """Return everything for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        lines = ["read       " + ", ".join(f"{count} {title}" for title, count in self.files.items())]
        cut = f" of {self.pages} pages" if self.pages else ""
        lines.append(f"documents  {self.documents}{cut}")
        lines.append(f"queries    {self.queries}")
        lines.append(f"judgments  {self.judgments}")
        for name, count in self.splits.items():
            lines.append(f"  {name:<8} {count['queries']} queries, {count['judgments']} judgments")
        for what, number in self.dropped.items():
            lines.append(f"left out   {number} {what}")
            lines += [f"             {example}" for example in self.examples.get(what, [])]
        return "\n".join([*lines, *(f"note       {note}" for note in self.notes)])
