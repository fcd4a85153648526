"""How work reaches Ray: connecting to a cluster, and jobs on it."""
