"""From a model ref to a talker in memory: aliases, node disk, talker cache."""
