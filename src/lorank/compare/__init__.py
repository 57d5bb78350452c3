"""Experiments: axes over recipe keys, a ledger of runs, statistics over groups of queries, one page."""
