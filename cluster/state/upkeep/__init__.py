"""What an operator tells the whole platform."""
