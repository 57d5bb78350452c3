"""Where adapters come from: the store, the packages in it, and their calibration."""
