"""Where the face is in each frame, and what it does: landmarks, lids, brows, lips, gaze."""
