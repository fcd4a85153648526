"""What the routes of a resource share: its bodies, and how they are made from what is stored."""
