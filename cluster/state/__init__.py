"""What Redis holds: accounts, jobs, limits, and the scripts that change them."""
