"""Where the time of one request or one fit went, through all processes (OpenTelemetry)."""
