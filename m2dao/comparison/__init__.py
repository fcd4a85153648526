"""Research: rows of recipes fitted and judged alike. Nothing imports it but the benches."""
