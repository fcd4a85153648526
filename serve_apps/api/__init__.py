"""The HTTP side: routes, uploads, and what a request may ask for."""
