"""Use cases of the service, independent of HTTP."""
