"""Looking into recordings that tenants upload."""
