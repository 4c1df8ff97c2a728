"""A plan and a shard of images become a shard result."""
