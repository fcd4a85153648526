"""Who acts on behalf of a tenant, and what was done."""
