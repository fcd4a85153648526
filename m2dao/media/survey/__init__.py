"""What is in a file: parts, tracks, time stamps; known before anything is decoded at length."""
