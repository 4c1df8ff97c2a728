"""Models behind servers of the Open Inference Protocol v2."""
