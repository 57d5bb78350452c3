"""Readers of click logs, one format a file."""

from lorank.data.click_logs.formats import baidu_ultr, open_bandit, table, yandex

__all__ = ["baidu_ultr", "open_bandit", "table", "yandex"]
