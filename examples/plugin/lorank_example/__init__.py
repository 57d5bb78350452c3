"""Methods of one's own for lorank; importing the package registers them."""

from lorank_example import margin, one_pass, row_scale, trimmed_borda

__all__ = ["margin", "one_pass", "row_scale", "trimmed_borda"]
