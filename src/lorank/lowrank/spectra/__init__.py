"""What ranks a model or an adapter really uses."""

from lorank.lowrank.spectra.update import adapter_spectra, effective_rank, factor_spectrum

__all__ = ["adapter_spectra", "effective_rank", "factor_spectrum"]
