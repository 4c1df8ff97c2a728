"""The whole service in one process tree, and the demo."""
