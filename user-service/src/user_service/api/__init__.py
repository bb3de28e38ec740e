"""How the user service is spoken to over HTTP."""
