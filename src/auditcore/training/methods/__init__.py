"""Training methods, each in the file that its contract has too."""
