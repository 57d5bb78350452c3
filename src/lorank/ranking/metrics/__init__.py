"""Measures, significance and confidence: is one run better than another, by how much, and how sure is that."""

from lorank.ranking.metrics.ceiling import ndcg_ceiling, recall_ceiling
from lorank.ranking.metrics.evaluate import evaluate
from lorank.ranking.metrics.evaluation import Comparison, Evaluation, SystemResult
from lorank.ranking.metrics.groups import group_tied_queries
from lorank.ranking.metrics.intervals import bootstrap_means, interval
from lorank.ranking.metrics.measures import mean_of, parse_measure, per_query, ranking_of
from lorank.ranking.metrics.significance import holm, randomization_test, t_test
from lorank.ranking.metrics.table import comparison_rows, markdown, system_rows, to_markdown

__all__ = [
    "Comparison",
    "Evaluation",
    "SystemResult",
    "bootstrap_means",
    "comparison_rows",
    "evaluate",
    "holm",
    "interval",
    "markdown",
    "mean_of",
    "ndcg_ceiling",
    "parse_measure",
    "per_query",
    "randomization_test",
    "ranking_of",
    "recall_ceiling",
    "system_rows",
    "t_test",
    "group_tied_queries",
    "to_markdown",
]
