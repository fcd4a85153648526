"""The API side of the service: an HTTP ingress and the replicas that render talking identities."""
