"""`m2dao-client`: the API from a terminal."""
