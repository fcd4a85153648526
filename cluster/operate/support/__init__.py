"""What a stranger may see of a platform in order to help: no secrets, no names, no faces and no sound."""
