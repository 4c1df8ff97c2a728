"""Workers: they take shards from the queue and compute them. Only this part needs torch."""
