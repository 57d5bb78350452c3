"""How a batch that mixes adapters is scored: rows, pages of factors, mixed layers, merged copies."""
