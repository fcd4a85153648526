"""Things of tenants that are no jobs: recordings."""
