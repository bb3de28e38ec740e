"""The use cases of the product service."""
