"""What happens to a request between the route and the model: schemas, keys, limits, queue, batches, cache."""
