"""Sound to what drives a face: features, windows, the trainable encoder and the lip-sync probe."""
