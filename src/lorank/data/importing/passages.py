"""Long pages cut into passages: at headings, then between blocks, then within a block that is too long.

Sections that fit together stay together. A section that is longer than a passage is cut on its own; each passage of it
begins with its heading, and with the last words of the passage before, as many as the overlap.
"""

import re
from collections.abc import Sequence

from lorank.data.importing.found import Section
from lorank.errors import UsageError

_SENTENCE = re.compile(r"(?<=[.!?])\s+")


def check_sizes(words: int, overlap: int) -> None:
    """Raise UsageError for sizes that cannot be: an overlap of half a passage or more, or fewer than 10 words."""
    if words and words < 10:
        raise UsageError(f"passages of {words} words are too short; take 10 or more, or 0 for whole pages")
    if overlap < 0 or (words and overlap > words // 2):
        raise UsageError(f"an overlap of {overlap} words does not fit passages of {words}; take at most half of it")


def cut_sections(sections: Sequence[Section], words: int, overlap: int = 0) -> list[str]:
    """Return the passages of a page, each of at most about ``words`` words; 0 leaves the page whole.

    >>> cut_sections([Section("A", ["one two"]), Section("B", ["three four five"])], words=5)
    ['A\\none two', 'B\\nthree four five']
    """
    passages: list[str] = []
    held: list[str] = []
    for section in sections:
        text = _join(section.heading, section.blocks)
        size = len(text.split())
        if held and words and sum(len(each.split()) for each in held) + size > words:
            passages.append("\n".join(held))
            held = []
        if not words or size <= words:
            held.append(text)
        else:
            passages += cut_long(section, words, overlap)
    if held:
        passages.append("\n".join(held))
    return [passage for passage in passages if passage.strip()]


def _join(heading: str, blocks: Sequence[str]) -> str:
    return "\n".join(part for part in (heading, *blocks) if part)


def cut_long(section: Section, words: int, overlap: int) -> list[str]:
    """Return the passages of a section that is longer than one."""
    room = max(words - len(section.heading.split()) - overlap, words // 3, 1)
    pieces = [piece for block in section.blocks for piece in _pieces(block, room)]
    chunks: list[list[str]] = [[]]
    for piece in pieces:
        if chunks[-1] and sum(len(each.split()) for each in chunks[-1]) + len(piece.split()) > room:
            chunks.append([])
        chunks[-1].append(piece)
    passages, before = [], ""
    for chunk in chunks:
        text = "\n".join(chunk)
        passages.append(_join(section.heading, [f"{before} {text}".strip()]))
        before = " ".join(text.split()[-overlap:]) if overlap else ""
    return passages


def _pieces(block: str, room: int) -> list[str]:
    """Return a block, runs of its sentences where it is too long, and runs of words where a sentence is."""
    if len(block.split()) <= room:
        return [block]
    pieces: list[str] = []
    for sentence in _SENTENCE.split(block):
        if pieces and len(pieces[-1].split()) + len(sentence.split()) <= room:
            pieces[-1] += f" {sentence}"
            continue
        split = sentence.split()
        pieces += (
            [sentence] if len(split) <= room else [" ".join(split[i : i + room]) for i in range(0, len(split), room)]
        )
    return pieces
