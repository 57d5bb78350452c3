"""What losses share: the registry, lists and pairs, derivatives, and their taxonomy."""
