"""How good a capture is: figures, pictures, and the truth of synthetic recordings."""
