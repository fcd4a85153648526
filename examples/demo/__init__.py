"""The demo: two synthetic people become identities that speak through the render API."""
