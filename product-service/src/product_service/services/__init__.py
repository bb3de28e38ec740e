"""What may happen to products, and who may do it."""
