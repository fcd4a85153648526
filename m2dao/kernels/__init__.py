"""What all compiled kernels share: vectors of eight floats, threads."""
