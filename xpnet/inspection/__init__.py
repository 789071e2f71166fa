"""Looking into a network: its numbers, its equations, and how it learns."""
