"""Pipelines of retrieval: engines whose runs are fused, a ranker over the best of them, and the tuning of both."""

from lorank.compare.pipelines.journal import ScoreJournal, open_journal
from lorank.compare.pipelines.pipeline_file import Pipeline, read_pipeline, write_pipeline
from lorank.compare.pipelines.search import TunedPipeline, tune_pipeline
from lorank.compare.pipelines.stages import Stages, open_stages

__all__ = [
    "Pipeline",
    "ScoreJournal",
    "Stages",
    "TunedPipeline",
    "open_journal",
    "open_stages",
    "read_pipeline",
    "tune_pipeline",
    "write_pipeline",
]
