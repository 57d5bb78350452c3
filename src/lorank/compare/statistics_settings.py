"""How the rows of an experiment are compared: the table [statistics] of an experiment file."""

from dataclasses import dataclass

from lorank.errors import UsageError, unknown_name

PAIRS = ("baseline", "all")
CORRECTIONS = ("holm", "bh")


@dataclass(frozen=True)
class StatisticsSettings:
    """The keys of [statistics] in an experiment file; each has the default that stands here.

    A reader of the file fills it with ``StatisticsSettings(**table)``, which checks every value, and gives it to
    `ExperimentResult.statistics`.

    Attributes:
        correction: "holm" bounds the chance of one false finding, "bh" (Benjamini-Hochberg) the share of false ones.
        confidence: The confidence of intervals, between 0 and 1; a finding has a corrected p below 1 - confidence.
        pairs: "baseline" compares each row with the baseline, "all" all pairs. Without a baseline all pairs are
            compared.
        rope: The half-width of the region of practical equivalence, in the unit of the measure, above 0; None leaves
            the Bayesian comparison out.
        power: The chance of finding the minimal detectable difference, between 0 and 1.
        resamples: The number of resamples, 100 or more.
        seed: The seed of the resamples, 0 or more.

    Raises:
        UsageError: for a value out of its range.

    >>> StatisticsSettings(correction="bh").level
    0.05
    """

    correction: str = "holm"
    confidence: float = 0.95
    pairs: str = "baseline"
    rope: float | None = None
    power: float = 0.8
    resamples: int = 10_000
    seed: int = 0

    def __post_init__(self) -> None:
        for key, known in (("correction", CORRECTIONS), ("pairs", PAIRS)):
            if getattr(self, key) not in known:
                raise unknown_name(f"[statistics] {key}", str(getattr(self, key)), known)
        for key in ("confidence", "power"):
            if not _is_number(value := getattr(self, key)) or not 0.5 <= value < 1:
                raise UsageError(f"[statistics] {key} is {value!r}; give a number from 0.5 to below 1")
        if self.rope is not None and not (_is_number(self.rope) and 0 < self.rope < float("inf")):
            raise UsageError(f"[statistics] rope is {self.rope!r}; give a difference above 0, such as 0.01")
        for key, least in (("resamples", 100), ("seed", 0)):
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise UsageError(f"[statistics] {key} is {value!r}; give a whole number from {least} up")

    @property
    def level(self) -> float:
        """The level of the tests, 1 - confidence."""
        return round(1 - self.confidence, 12)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
