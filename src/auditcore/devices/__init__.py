"""The host and its accelerators: values on their way between them, arithmetic and memory."""
