"""What an operator does to the whole platform: maintenance, backups, sizing, support."""
