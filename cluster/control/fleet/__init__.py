"""One wish for many identities of a tenant."""
