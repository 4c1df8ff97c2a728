"""A whole audit: the order of its steps, in one process or in many. What one shard computes is in `engine`."""
