"""The machinery of streams: the contract of methods, the stages, and the matrix of all test sets."""
