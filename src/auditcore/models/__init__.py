"""The model under audit: references, loading, canonical form."""
