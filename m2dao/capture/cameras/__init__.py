"""One focal length for a recording, and a head pose for every frame."""
