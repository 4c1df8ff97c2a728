"""From bytes to tensors, safely."""
