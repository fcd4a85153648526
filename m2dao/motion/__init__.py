"""Motion decoupling: rigid head, facial and oral fields, torso, and what holds them together."""
