"""The way from the database to the workers."""
