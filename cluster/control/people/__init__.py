"""What may be done about those who act on behalf of a tenant."""
