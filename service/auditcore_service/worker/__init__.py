"""Takes shards from the queue and computes them. The only part that needs torch."""
