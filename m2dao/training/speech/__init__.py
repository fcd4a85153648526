"""Learning the audio encoders that move the lips."""
