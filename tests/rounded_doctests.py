"""Doctests whose numbers agree up to rounding: another processor sums in another order and prints another last digit.

A number in the expected output agrees with the one printed when they differ by at most

    max(1e-6 max(1, |expected|), one unit of the last place if three or more decimals are written)

so that ``1.0`` still means one and not about one. All other characters must be the same, as doctest compares them.
"""

import doctest
import re

NUMBER = re.compile(
    r"(?<![\w.])[-+]?(?:\d+\.\d*|\.\d+)(?:e[-+]?\d+)?(?![\w])|(?<![\w.])[-+]?\d+e[-+]?\d+(?![\w])", re.IGNORECASE
)
_PADDING = re.compile(r"(?<=[\[(,])\s+|\s+(?=[\])])")


def numbers_agree(expected: str, printed: str) -> bool:
    """Return whether two printed floats are the same number up to rounding.

    >>> numbers_agree("0.7602", "0.7603"), numbers_agree("1.0", "1.0000000000000002"), numbers_agree("1.0", "0.99")
    (True, True, False)
    """
    mantissa, _, exponent = expected.lower().partition("e")
    decimals = len(mantissa.partition(".")[2])
    unit = 10.0 ** (int(exponent or 0) - decimals) if decimals >= 3 else 0.0
    apart = abs(float(expected) - float(printed))
    return apart <= max(1e-6 * max(1.0, abs(float(expected))), unit * 1.001)


class RoundedOutputChecker(doctest.OutputChecker):
    """The checker of the standard library, with numbers that may differ by rounding."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        """Return whether ``got`` is what the example wants."""
        if super().check_output(want, got, optionflags):
            return True
        wanted, printed = NUMBER.findall(want), NUMBER.findall(got)
        if len(wanted) != len(printed) or not all(map(numbers_agree, wanted, printed)):
            return False
        left = iter(wanted)
        same_numbers = NUMBER.sub(lambda _: next(left), got)
        return super().check_output(_PADDING.sub("", want), _PADDING.sub("", same_numbers), optionflags)
