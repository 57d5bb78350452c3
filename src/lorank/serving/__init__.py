"""HTTP rerank API, batching across adapters, adapter store."""
