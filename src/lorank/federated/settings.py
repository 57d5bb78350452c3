"""Everything that decides a federation beside the recipe of its clients' training."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from lorank.errors import UsageError
from lorank.federated.aggregators import Aggregator, make_aggregator
from lorank.federated.planning import Device
from lorank.federated.privacy import Privacy


@dataclass(frozen=True)
class Federation:
    """How many owners make one adapter.

    Attributes:
        method: The name of a way of aggregating.
        options: The method's own options.
        rounds: How often clients train and send.
        steps: How many steps a client trains per round.
        privacy: What is done to messages before they leave a client; None leaves them as they are.
        bound: What the server does about updates that are too large: "none", "median" of the clients' norms, or a norm.
        devices: What the clients train on, by their names, for methods that plan by it.
    """

    method: str = "fedex-lora"
    options: Mapping[str, Any] = field(default_factory=dict)
    rounds: int = 3
    steps: int = 10
    privacy: Privacy | None = None
    bound: str | float = "none"
    devices: Mapping[str, Device] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.steps < 1:
            raise UsageError(f"--rounds {self.rounds} --steps {self.steps}: give 1 or more of each")
        if isinstance(self.bound, str) and self.bound not in ("none", "median"):
            raise UsageError(f"--bound {self.bound}: choose none, median, or a number above 0")
        if not isinstance(self.bound, str) and not self.bound > 0:
            raise UsageError(f"--bound {self.bound:g}: give a number above 0")

    def aggregator(self) -> Aggregator:
        """Return the method with its options.

        Raises:
            UsageError: If privacy or a bound is asked of a method whose messages are votes.
        """
        made = make_aggregator(self.method, **self.options)
        if made.votes and (self.privacy is not None or self.bound != "none"):
            raise UsageError(f"--method {self.method}: its messages are orders, which are neither clipped nor noised")
        return made

    def as_plain(self) -> dict[str, Any]:
        """Return the settings as JSON-ready data."""
        return asdict(self)
