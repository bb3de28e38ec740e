"""How products are stored and found."""
