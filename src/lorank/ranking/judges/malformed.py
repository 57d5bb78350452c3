"""How many of a judge's answers could not be read as they came, and what one of them looked like."""

from dataclasses import dataclass

from lorank.ranking.judges.judge import JudgeError

WARN_ABOVE = 0.2
"""The share of malformed answers above which a warning is given."""


@dataclass(frozen=True)
class Malformed:
    """``count`` of ``answers`` were malformed; ``sample`` shows the first of these, empty where there is none.

    Answers that a cache kept count as those that were paid now, each question once.

    >>> Malformed(1, 4, "NaN") + Malformed(0, 4)
    Malformed(count=1, answers=8, sample='NaN')
    """

    count: int = 0
    answers: int = 0
    sample: str = ""

    def __add__(self, other: "Malformed") -> "Malformed":
        return Malformed(self.count + other.count, self.answers + other.answers, self.sample or other.sample)

    @property
    def share(self) -> float:
        """The share of malformed answers, 0 where there were no answers."""
        return self.count / self.answers if self.answers else 0.0

    @property
    def many(self) -> bool:
        """True where the share is above ``WARN_ABOVE``."""
        return self.share > WARN_ABOVE

    @property
    def all(self) -> bool:
        """True where there were answers and every one was malformed."""
        return self.answers > 0 and self.count == self.answers

    def describe(self) -> str:
        """Return the share in words, with the sample.

        >>> Malformed(3, 4, "NaN").describe()
        "3 of the judge's 4 answers (75%) were malformed; the first of them: NaN"
        """
        said = f"; the first of them: {self.sample}" if self.sample else ""
        return f"{self.count} of the judge's {self.answers} answers ({self.share:.0%}) were malformed{said}"


def check_malformed(malformed: Malformed) -> None:
    """Raise JudgeError where every answer was malformed: the order would be that in which the documents came."""
    if malformed.all:
        raise JudgeError(
            f"{malformed.describe()}. An order made of these would be the one in which the documents came. Look at "
            "the prompts, at the length of replies (max_tokens) and at the kind of questions that the strategy asks"
        )
