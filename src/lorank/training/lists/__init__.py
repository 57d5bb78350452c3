"""What the loop reads: candidates, lists, batches, extra inputs of a loss, and the calibration pass."""
