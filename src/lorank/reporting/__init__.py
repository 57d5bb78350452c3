"""Reporting: what a run found, as one self-contained HTML file."""

from lorank.reporting.page import render, write_report
from lorank.reporting.run_folder import RunFolder, read_run_folder
from lorank.reporting.verdict import Verdict, verdict

__all__ = ["RunFolder", "Verdict", "read_run_folder", "render", "verdict", "write_report"]
