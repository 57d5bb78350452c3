"""Callbacks of the training loop: budgets, rules, routing, and the memories of losses."""
