"""Programs that use the project as its users do; tests run them."""
