"""What a plan costs, before any model is loaded. Needs no torch."""
