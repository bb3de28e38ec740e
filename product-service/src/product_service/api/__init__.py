"""How the product service is spoken to over HTTP."""
