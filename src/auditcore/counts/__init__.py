"""How many windows, coalitions, cells, levels and steps a method has: counted once, without torch."""
