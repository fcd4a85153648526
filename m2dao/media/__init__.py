"""Media in and out: decode by time stamps, normalise to one clock, encode in exact sync."""
