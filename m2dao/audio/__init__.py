"""Sound to what drives a face: features, windows, the audio encoder and the lip-sync probe."""
