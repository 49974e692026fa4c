"""Turns under random faults, and a checker that reads only what clients saw and what the stores hold at the end."""
