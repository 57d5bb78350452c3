"""Words that do not belong in names and docstrings, counted per file against a list that may only shrink.

    python tools/check_words.py            # prints what exceeds tools/words_allowed.json; exit code 1 if anything does
    python tools/check_words.py --shrink   # lowers the list to what is there

CONTRIBUTING.md says which word to use instead. Names are split at underscores and capitals.
"""

import ast
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ALLOWED = ROOT / "tools" / "words_allowed.json"

INSTEAD = {
    r"listen(s|er|ers|ed|ing)?": "progress, on_progress, callback (in serving/ a socket listens)",
    r"told|telling": "given, set, context",
    r"wants?": "requires, takes",
    r"shel(f|ves)": "loader",
    r"bank": "engine",
    r"residents?": "LRU, loaded adapters",
    r"intake": "middleware",
    r"waiting": "queue, pending",
    r"hears?|heard": "is called with, receives",
    r"at hand": "available",
    r"pass it on|take it back": "Delegates to ..., Restores ...",
    r"ha(s|ve) no say": "is not used",
}
"""House words as regular expressions over lower-case text, and what to write."""

_HOUSE = {word: re.compile(rf"\b(?:{word})\b") for word in INSTEAD}


def counts(path: Path) -> Counter[str]:
    """Return how often each house word stands in the names and docstrings of a file."""
    found: Counter[str] = Counter()
    for text in _texts(ast.parse(path.read_text(encoding="utf-8"))):
        for word, pattern in _HOUSE.items():
            if not (word.startswith("listen") and "serving" in path.parts):
                found[word] += len(pattern.findall(text))
    return +found


def excess() -> list[str]:
    """Return a line for each file that has more of a house word than it is allowed."""
    allowed = json.loads(ALLOWED.read_text())
    return [
        f"{file}: {count} times {word!r}, allowed {allowed.get(file, {}).get(word, 0)}; write {INSTEAD[word]}"
        for file, found in sorted(everything().items())
        for word, count in found.items()
        if count > allowed.get(file, {}).get(word, 0)
    ]


def everything() -> dict[str, Counter[str]]:
    """Return the counts of every file of the package that has any."""
    files = sorted((ROOT / "src" / "lorank").rglob("*.py"))
    return {str(path.relative_to(ROOT)): found for path in files if (found := counts(path))}


def shrink() -> None:
    """Lower the list to what is there; nothing is ever added to it."""
    allowed, present = json.loads(ALLOWED.read_text()), everything()
    kept = {
        file: {word: min(count, present[file][word]) for word, count in words.items() if present[file][word]}
        for file, words in allowed.items()
        if file in present
    }
    ALLOWED.write_text(json.dumps({file: words for file, words in kept.items() if words}, indent=1) + "\n")


def _texts(tree: ast.AST) -> Iterator[str]:
    """Yield each name that a file binds, in words, and each docstring, in lower case."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.arg):
            names = [node.arg]
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            names = [node.id if isinstance(node, ast.Name) else node.attr]
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield " ".join(node.value.value.lower().split())
        for name in names:
            yield re.sub(r"_|(?<=[a-z])(?=[A-Z])", " ", name).lower()


if __name__ == "__main__":
    if "--shrink" in sys.argv[1:]:
        shrink()
    lines = excess()
    print("\n".join(lines))
    sys.exit(bool(lines))
