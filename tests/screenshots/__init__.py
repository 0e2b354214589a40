"""The README's pictures of the monitor, and what draws them."""
