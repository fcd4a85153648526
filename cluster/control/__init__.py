"""What an operator or the API may do, without HTTP and without Ray."""
