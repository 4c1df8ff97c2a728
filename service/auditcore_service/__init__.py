"""The REST service: gateway, store, queue and workers around the library."""
