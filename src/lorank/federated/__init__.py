"""Federated training: many owners of data, one adapter, and nothing but what the method says leaves an owner.

`lorank.federated.aggregators` are the methods, `lorank.federated.simulation` runs a federation in one process, and
`lorank.federated.flower` runs it over a network.
"""

from lorank.federated.aggregators import AGGREGATORS, Aggregator, Upload, aggregator, make_aggregator

__all__ = ["AGGREGATORS", "Aggregator", "Upload", "aggregator", "make_aggregator"]
