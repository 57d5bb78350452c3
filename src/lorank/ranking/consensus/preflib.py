"""PrefLib files: soc, soi, toc, toi (rankings, complete or not, with or without ties) and cat (categories).

    # NUMBER ALTERNATIVES: 3
    # NUMBER VOTERS: 5
    # ALTERNATIVE NAME 1: Mean Girls
    4: 1,{2,3}
    1: 2

A line is a number of voters and their order, best first; braces hold a tie, or a category. The extension says what
is legal: no ties in soc and soi, every alternative in soc and toc. (Mattei and Walsh 2013, PrefLib, ADT;
preflib.github.io.)
"""

import re
from pathlib import Path

from lorank.errors import DataError
from lorank.ranking.consensus.profile import Profile, from_rankings
from lorank.reading import all_lines, plain_name, refuse_nul

KINDS = ("soc", "soi", "toc", "toi", "cat")
_HEADER = re.compile(r"#\s*([A-Z ]+?)\s*(\d{0,9})\s*:\s*(.*?)\s*", re.ASCII)
_COUNT = re.compile(r"\d{1,15}", re.ASCII)
_ORDER = re.compile(r"\s*(?:\d{1,9}|\{[\d,\s]*\})(?:\s*,\s*(?:\d{1,9}|\{[\d,\s]*\}))*\s*", re.ASCII)
_GROUP = re.compile(r"\{([\d,\s]*)\}|(\d+)")


def read_preflib(path: str | Path, *, kind: str | None = None, check_counts: bool = True) -> Profile:
    """Return the profile of a PrefLib file; a ballot's weight is its number of voters.

    Args:
        path: The file, which may be compressed.
        kind: "soc", "soi", "toc", "toi" or "cat"; None takes the extension.
        check_counts: Refuse a file whose numbers of alternatives, voters and orders are not those its header states.

    Raises:
        DataError: With file and line, for a line that is no order, an alternative that the header does not name or
            that stands twice, a tie or a gap that the kind forbids, and counts that differ.
    """
    kind = kind or plain_name(path).rpartition(".")[2]
    if kind not in KINDS:
        raise DataError(path, None, f"{kind!r} is no PrefLib kind", f"name the kind: {', '.join(KINDS)}")
    counts, names, ballots = {}, {}, []
    for line, text in all_lines(path):
        refuse_nul(path, line, text)
        if text.startswith("#"):
            if found := _HEADER.fullmatch(text):
                key, number, value = found.groups()
                if key == "ALTERNATIVE NAME" and number:
                    names[int(number)] = value
                elif key.startswith("NUMBER"):
                    counts[key] = value
        elif text.strip():
            ballots.append((line, *_ballot(path, line, text)))
    _check_names(path, names)
    orders = [_find_named(path, line, groups, names, kind) for line, _, groups in ballots]
    if check_counts:
        _check_counts(path, counts, len(names), sum(voters for _, voters, _ in ballots), len(ballots))
    return from_rankings(orders, [voters for _, voters, _ in ballots], items=names.values())


def _ballot(path: str | Path, line: int, text: str) -> tuple[int, list[list[int]]]:
    voters, colon, order = text.partition(":")
    if not colon or not _COUNT.fullmatch(voters.strip()) or not _ORDER.fullmatch(order):
        raise DataError(path, line, f"{text.strip()[:60]!r} is no order", "a line is 'voters: 1,{2,3},4'")
    if any(len(number) > 9 for number in re.findall(r"\d+", order)):
        raise DataError(path, line, "a number of more than nine digits", "number the alternatives from 1")
    groups = [[int(number) for number in re.findall(r"\d+", tied or single)] for tied, single in _GROUP.findall(order)]
    return int(voters), groups


def _find_named(
    path: str | Path, line: int, groups: list[list[int]], names: dict[int, str], kind: str
) -> list[list[str]]:
    flat = [number for group in groups for number in group]
    for number in flat:
        if number not in names:
            raise DataError(
                path,
                line,
                f"alternative {number} is not named in the header",
                f"add '# ALTERNATIVE NAME {number}: ...'",
            )
    if len(set(flat)) != len(flat):
        raise DataError(path, line, "an alternative stands twice in the order", "list each once")
    if kind in ("soc", "soi") and any(len(group) > 1 for group in groups):
        raise DataError(path, line, f"a tie in a .{kind} file", "name it .toc or .toi")
    if kind in ("soc", "toc") and len(flat) != len(names):
        raise DataError(
            path, line, f"{len(flat)} of {len(names)} alternatives in a .{kind} file", "name it .soi or .toi"
        )
    return [[names[number] for number in group] for group in groups]


def _check_names(path: str | Path, names: dict[int, str]) -> None:
    if not names:
        raise DataError(path, None, "no alternative is named", "a header line is '# ALTERNATIVE NAME 1: ...'")
    if len(set(names.values())) != len(names):
        raise DataError(path, None, "two alternatives have the same name", "give each its own")


def _check_counts(path: str | Path, counts: dict[str, str], named: int, voters: int, orders: int) -> None:
    stated_orders = counts.get("NUMBER UNIQUE ORDERS", counts.get("NUMBER UNIQUE PREFERENCES", ""))
    for what, stated, found in (
        ("alternatives", counts.get("NUMBER ALTERNATIVES", ""), named),
        ("voters", counts.get("NUMBER VOTERS", ""), voters),
        ("unique orders", stated_orders, orders),
    ):
        if _COUNT.fullmatch(stated) and int(stated) != found:
            raise DataError(
                path,
                None,
                f"the header states {stated} {what} and the file holds {found}",
                "complete the file, mend its header, or read it without checking counts",
            )
