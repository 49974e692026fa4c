"""Replay: choose records that lie on the log, plan what giving them again would mean, and give them, resumably."""
