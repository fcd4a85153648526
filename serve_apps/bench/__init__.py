"""`m2dao bench service`: promises of the service, measured by a client in a process of its own."""
