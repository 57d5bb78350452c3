"""Click models, one a file: how likely each click of a shown list is."""

from lorank.ranking.clicks.models import cascade, dbn, dcm, pbm, trust, ubm

__all__ = ["cascade", "dbn", "dcm", "pbm", "trust", "ubm"]
