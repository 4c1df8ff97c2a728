"""The host and its accelerators: transfers, arithmetic precision and memory."""
