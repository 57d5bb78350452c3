"""What rank budgets share: their contract, gates, growth, pruning and the statistics they read."""
