"""Sound: the track and channels that are heard, their place in time, their rate."""
