"""Where models and images come from: files, object stores, registries and servers. Needs no torch."""
