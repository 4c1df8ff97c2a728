"""What takes shards off the queue and computes them. The only part that needs torch."""
