"""How wide the terminal is, and lines that fit it; what is not printed to a terminal stays whole."""

import os
import sys


def terminal_width() -> int | None:
    """Return the columns of the terminal that stdout is, or what COLUMNS says; None where lines may have any length."""
    stated = os.environ.get("COLUMNS", "")
    if stated.isdigit() and int(stated) > 0:
        return int(stated)
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns if sys.stdout.isatty() else None
    except (OSError, ValueError):  # a stand-in for the standard output, as in tests
        return None


def cut_to_width(text: str, width: int | None = None) -> str:
    """Return ``text`` with lines that are longer than the terminal is wide cut off, and … at their end.

    >>> cut_to_width("a line of words\\nshort", 8)
    'a line …\\nshort'
    """
    width = width or terminal_width()
    if width is None:
        return text
    return "\n".join(line if len(line) <= width else line[: width - 1] + "…" for line in text.split("\n"))


def cut_middle(text: str, width: int) -> str:
    """Return ``text`` in at most ``width`` characters, … in place of what was cut out of its middle.

    >>> cut_middle("encoder.layer.0.attention.self.query", 16)
    'encoder…lf.query'
    """
    if len(text) <= width or width < 5:
        return text
    left = (width - 1) // 2
    return f"{text[:left]}…{text[len(text) - (width - 1 - left) :]}"
