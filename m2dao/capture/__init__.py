"""Recording in, capture out: tracked faces, cameras, region masks, sound, and a quality report."""
