"""Ways of making one adapter of many: one method per file; importing this room fills the registry."""

from lorank.federated.aggregators import (
    fair_equal_collaboration,
    fed_sb,
    fedex_lora,
    fedsa_lora,
    frl,
    legend_fedft,
    mean,
)
from lorank.federated.aggregators.core.aggregator import (
    AGGREGATORS,
    Aggregator,
    Upload,
    Uploads,
    aggregator,
    make_aggregator,
)

__all__ = [
    "AGGREGATORS",
    "Aggregator",
    "Upload",
    "Uploads",
    "aggregator",
    "fair_equal_collaboration",
    "fed_sb",
    "fedex_lora",
    "fedsa_lora",
    "frl",
    "legend_fedft",
    "make_aggregator",
    "mean",
]
