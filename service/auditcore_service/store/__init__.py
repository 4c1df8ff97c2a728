"""The database: audits, their shards, events and image batches, in SQLite or PostgreSQL."""
