"""Click logs in the formats that people have, read as streams of impressions."""

from lorank.data.click_logs.collections import read_click_collection, with_clicks
from lorank.data.click_logs.packed import PackedImpressions, pack_impressions
from lorank.data.click_logs.packing import LogSessions, sessions_of_log
from lorank.data.click_logs.reading import guess_format, read_log
from lorank.data.click_logs.registry import LOG_FORMATS, LogCounts, log_format

__all__ = [
    "LOG_FORMATS",
    "LogCounts",
    "LogSessions",
    "PackedImpressions",
    "guess_format",
    "log_format",
    "pack_impressions",
    "read_click_collection",
    "read_log",
    "sessions_of_log",
    "with_clicks",
]
