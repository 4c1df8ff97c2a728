"""Decoding and preprocessing: from untrusted bytes to tensors."""
