"""Blocks that the pages of a folder share (menus, footers, notices) are found and dropped.

A block is shared that stands, whatever numbers it holds, on at least a share of the folder's pages (of five and more).
A heading goes where all that stood under it goes. A title loses its last or first part ("| My site") where as many
share it.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lorank.data.importing.found import Page, Section

FEWEST = 5
"""Of fewer pages nothing can be said."""

_PARTED = re.compile(r"\s+(?:[|–—·»:-]|::)\s+")


@dataclass(frozen=True)
class Shared:
    """What was dropped: blocks and title parts that are different, and how many pages each stood on."""

    blocks: dict[str, int]
    titles: dict[str, int]


def plain(block: str) -> str:
    """Return a block as blocks are compared: blanks evened, numbers left open.

    >>> plain("Page 3 of  12")
    'page # of #'
    """
    return re.sub(r"\d+", "#", " ".join(block.lower().split()))


def drop_shared(pages: Sequence[Page], share: float = 0.8) -> tuple[list[Page], Shared]:
    """Return the pages without what at least ``share`` (0 to 1, 0 keeps all) of them share, and what was dropped.

    A page that holds nothing else stays as a page without sections.
    """
    if share <= 0 or len(pages) < FEWEST:
        return list(pages), Shared({}, {})
    least = max(share * len(pages), FEWEST)
    seen = Counter(key for page in pages for key in {plain(block) for s in page.sections for block in s.blocks})
    shared = {key for key, count in seen.items() if count >= least}
    headings = Counter(key for page in pages for key in {plain(s.heading) for s in page.sections if s.heading})
    silent = {key for key, count in headings.items() if count >= least}
    ends = Counter(end for page in pages for end in _ends(page.title))
    ends = Counter({end: count for end, count in ends.items() if count >= least})
    kept = [
        replace(
            page,
            title=_without_end(page.title, ends),
            sections=[left for s in page.sections if (left := _without(s, shared, silent)) is not None],
        )
        for page in pages
    ]
    texts = {plain(block): block for page in pages for s in page.sections for block in s.blocks}
    return kept, Shared(
        {texts[key]: seen[key] for key in sorted(shared, key=lambda key: (-seen[key], key))},
        {text: count for (text, _), count in ends.items()},
    )


def _without(section: Section, shared: set[str], silent: set[str]) -> Section | None:
    blocks = [block for block in section.blocks if plain(block) not in shared]
    if not blocks and (not section.heading or section.blocks or plain(section.heading) in silent):
        return None
    return Section(section.heading, blocks)


def _ends(title: str) -> set[tuple[str, str]]:
    parts = _PARTED.split(title)
    return {(parts[0], "first"), (parts[-1], "last")} if len(parts) > 1 else set()


def _without_end(title: str, ends: Counter[tuple[str, str]]) -> str:
    parts = list(_PARTED.finditer(title))
    if parts and (title[parts[-1].end() :], "last") in ends:
        return title[: parts[-1].start()].strip()
    if parts and (title[: parts[0].start()], "first") in ends:
        return title[parts[0].end() :].strip()
    return title
