"""How the report writes numbers; whatever is absent or not finite becomes an en dash."""

import math
from datetime import datetime
from typing import TypeGuard

ABSENT = "–"
MINUS = "−"
THIN_SPACE = "\u202f"


def is_known(value: float | None) -> TypeGuard[float]:
    """True where ``value`` is a finite number."""
    return value is not None and math.isfinite(value)


def decimal(value: float | None, places: int = 3) -> str:
    """Return ``value`` with a fixed number of decimals and a true minus sign.

    >>> decimal(0.5731), decimal(-0.02), decimal(float("nan"))
    ('0.573', '−0.020', '–')
    """
    if not is_known(value):
        return ABSENT
    text = f"{value:.{places}f}"
    return MINUS + text[1:] if text.startswith("-") and float(text) != 0 else text.lstrip("-")


def signed_decimal(value: float | None, places: int = 3) -> str:
    """Return a difference, always with its sign unless it rounds to zero.

    >>> signed_decimal(0.027), signed_decimal(-0.027), signed_decimal(0.0001)
    ('+0.027', '−0.027', '0.000')
    """
    text = decimal(value, places)
    return f"+{text}" if is_known(value) and float(f"{value:.{places}f}") > 0 else text


def interval(bounds: tuple[float, float], places: int = 3, *, sign: bool = False) -> str:
    """Return an interval in brackets.

    >>> interval((0.4, 0.6)), interval((-0.01, 0.03), sign=True)
    ('[0.400, 0.600]', '[−0.010, +0.030]')
    """
    write = signed_decimal if sign else decimal
    return f"[{write(bounds[0], places)}, {write(bounds[1], places)}]"


def p_value(p: float | None) -> str:
    """Return a p-value to three decimals, bounded below.

    >>> p_value(0.0312), p_value(0.0002), p_value(1.0)
    ('0.031', '< 0.001', '1.000')
    """
    return "< 0.001" if is_known(p) and p < 0.001 else decimal(p, 3)


def p_clause(p: float) -> str:
    """Return ``p = ...`` or ``p < 0.001``, for use inside a sentence.

    >>> p_clause(0.25), p_clause(0.0001)
    ('p = 0.250', 'p < 0.001')
    """
    text = p_value(p)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def moment(iso: str) -> str:
    """Return an ISO 8601 time as date, minute and zone, a date as it is, and anything else as well.

    >>> moment("2026-11-21T05:40:12+00:00"), moment("2026-11-21T05:40:12+0130"), moment("last week")
    ('2026-11-21 05:40 UTC', '2026-11-21 05:40 UTC+01:30', 'last week')
    >>> moment("2026-11-21")
    '2026-11-21'
    """
    try:
        form = "%Y-%m-%d" if len(iso) == len("2026-11-21") else "%Y-%m-%d %H:%M %Z"
        return datetime.fromisoformat(iso).strftime(form).strip()
    except ValueError:
        return iso


def count(value: float | None) -> str:
    """Return a whole number with thin spaces between thousands.

    >>> count(1234567).replace(THIN_SPACE, "_"), count(None)
    ('1_234_567', '–')
    """
    return f"{round(value):,}".replace(",", THIN_SPACE) if is_known(value) else ABSENT


def percent(share: float | None, places: int = 1) -> str:
    """Return a share as a percentage.

    >>> percent(0.8412).replace(THIN_SPACE, " ")
    '84.1 %'
    """
    return f"{decimal(100 * share, places)}{THIN_SPACE}%" if is_known(share) else ABSENT


def size(byte_count: float | None) -> str:
    """Return a size in decimal units.

    >>> [size(n).replace(THIN_SPACE, " ") for n in (0, 999, 1_200_000, 91_000_000_000)]
    ['0 B', '999 B', '1.2 MB', '91.0 GB']
    """
    if not is_known(byte_count):
        return ABSENT
    power = max(0, min(4, int(math.log10(byte_count) // 3))) if byte_count >= 1 else 0
    return f"{byte_count / 1000**power:.{1 if power else 0}f}{THIN_SPACE}{('B', 'kB', 'MB', 'GB', 'TB')[power]}"


def duration(seconds: float | None) -> str:
    """Return a time span in the unit a reader would choose.

    >>> [duration(s).replace(THIN_SPACE, " ") for s in (0, 0.0123, 4.21, 243, 7500)]
    ['0 s', '12 ms', '4.2 s', '4 min 03 s', '2 h 05 min']
    """
    if not is_known(seconds):
        return ABSENT
    if seconds == 0:
        return f"0{THIN_SPACE}s"
    if seconds < 1:
        return f"{1000 * seconds:.0f}{THIN_SPACE}ms"
    if seconds < 59.95:
        return f"{seconds:.1f}{THIN_SPACE}s"
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    if whole < 3600:
        return f"{minutes}{THIN_SPACE}min {rest:02d}{THIN_SPACE}s"
    return f"{minutes // 60}{THIN_SPACE}h {minutes % 60:02d}{THIN_SPACE}min"
