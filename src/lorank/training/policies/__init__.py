"""Causal language models trained by what their written replies earn, in the one loop."""
