"""What a collection could have shown: the smallest true difference that a test would find."""

import math


def minimal_detectable_difference(
    standard_error: float, degrees: float, *, level: float = 0.05, power: float = 0.8
) -> float:
    r"""Return the true difference that a two-sided t test at ``level`` finds with chance ``power``.

    d = \lambda s,   with \lambda such that   P(T_\nu(\lambda) > t_{\nu, 1 - level/2}) = power,

    where T_\nu(\lambda) is the noncentral t. A difference that is found in the other direction is not counted.

    Args:
        standard_error: s, the standard error of the difference, 0 or more.
        degrees: \nu, its degrees of freedom, above 0; infinity is the normal limit.
        level: The chance of a false finding, between 0 and 1.
        power: The chance of finding the difference, above ``level`` / 2 and below 1.

    Returns:
        The difference in the unit of ``standard_error``.

    >>> round(minimal_detectable_difference(1.0, float("inf")), 2)   # 1.96 + 0.84
    2.8
    """
    from scipy.special import nctdtrinc, ndtri, stdtrit

    if degrees > 1e6:
        return standard_error * float(ndtri(1 - level / 2) + ndtri(power))
    critical = float(stdtrit(degrees, 1 - level / 2))
    needed = float(nctdtrinc(degrees, 1 - power, critical))
    if not math.isfinite(needed):
        needed = critical + float(stdtrit(degrees, power))
    return standard_error * needed
