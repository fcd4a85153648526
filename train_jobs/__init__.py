"""Training on a cluster: recordings in, registered and promoted identity versions out."""
