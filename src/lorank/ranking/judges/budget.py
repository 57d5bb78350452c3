"""A budget: how many calls or tokens a ranking may cost."""

from dataclasses import dataclass

from lorank.errors import UsageError
from lorank.ranking.judges.usage import Usage


@dataclass(frozen=True)
class Budget:
    """The most that may be spent, in ``calls`` and in ``tokens`` (in and out); None is without limit.

    >>> Budget.parse("calls=200,tokens=50000")
    Budget(calls=200, tokens=50000)
    """

    calls: int | None = None
    tokens: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("calls", self.calls), ("tokens", self.tokens)):
            if value is not None and value < 0:
                raise UsageError(f"a budget of {name} must be 0 or above, got {value}")

    @classmethod
    def parse(cls, text: str) -> "Budget":
        """Read ``calls=N``, ``tokens=N`` or both, separated by a comma."""
        limits: dict[str, int] = {}
        for part in text.split(","):
            name, _, number = part.partition("=")
            if name.strip() not in ("calls", "tokens") or not number.strip().isdigit():
                raise UsageError(
                    f"cannot read the budget {text!r}; write calls=200, tokens=50000, or both, separated by a comma"
                )
            limits[name.strip()] = int(number)
        return cls(**limits)

    def allows(self, usage: Usage, calls: int, tokens: int) -> bool:
        """Return whether ``calls`` and ``tokens`` more still fit, after ``usage``."""
        return (self.calls is None or usage.calls + calls <= self.calls) and (
            self.tokens is None or usage.tokens + tokens <= self.tokens
        )
