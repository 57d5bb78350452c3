"""Readers of click logs, one format a file."""
