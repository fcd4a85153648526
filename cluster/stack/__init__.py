"""The embedded services: real ones, started and stopped on this machine."""
