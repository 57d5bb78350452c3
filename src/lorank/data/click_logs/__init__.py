"""Click logs in the formats that people have, read as streams of impressions."""

from lorank.data.click_logs.packing import LogSessions, sessions_of_log
from lorank.data.click_logs.registry import LOG_FORMATS, LogCounts, guess_format, log_format, read_log

__all__ = ["LOG_FORMATS", "LogCounts", "LogSessions", "guess_format", "log_format", "read_log", "sessions_of_log"]
