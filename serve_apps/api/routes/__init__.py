"""One router a resource: each reads the request, calls a use case and shapes the answer."""
