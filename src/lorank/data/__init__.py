"""Formats in and out, collections, folds and candidate lists."""

from lorank.data.beir import read_beir, write_beir
from lorank.data.candidates import TrainingList, from_run, training_lists
from lorank.data.clicks import Impression, read_clicks, write_clicks
from lorank.data.collection import Collection, Split
from lorank.data.folds import cross_validation, hold_out_dev
from lorank.data.frames import qrels_from_frame, qrels_to_frame, run_from_frame, run_to_frame
from lorank.data.free_queries import free_queries, targets, without_source
from lorank.data.importing import import_sources
from lorank.data.letor import read_folds, read_letor, write_letor
from lorank.data.load import from_ir_datasets, load
from lorank.data.pages import rank_pages, read_pages
from lorank.data.rows import TrainingRow, read_rows, training_rows, write_rows
from lorank.data.svmlight import FeatureRows, read_feature_rows, write_feature_rows
from lorank.data.trec import read_qrels, read_run, write_qrels, write_run
from lorank.ranking.types import order_documents

__all__ = [
    "Collection",
    "FeatureRows",
    "Impression",
    "Split",
    "TrainingList",
    "TrainingRow",
    "cross_validation",
    "free_queries",
    "from_ir_datasets",
    "from_run",
    "hold_out_dev",
    "import_sources",
    "load",
    "order_documents",
    "qrels_from_frame",
    "qrels_to_frame",
    "rank_pages",
    "read_beir",
    "read_clicks",
    "read_feature_rows",
    "read_folds",
    "read_letor",
    "read_pages",
    "read_qrels",
    "read_rows",
    "read_run",
    "run_from_frame",
    "run_to_frame",
    "targets",
    "training_lists",
    "training_rows",
    "without_source",
    "write_beir",
    "write_clicks",
    "write_feature_rows",
    "write_letor",
    "write_qrels",
    "write_rows",
    "write_run",
]
