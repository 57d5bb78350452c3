"""The machinery of post-training factorisation: layers, statistics, decompositions, ranks."""
