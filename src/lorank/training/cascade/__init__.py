"""A cascade: a first stage, a bi-encoder tuned over its candidates, and a cross-encoder that corrects the best few."""
