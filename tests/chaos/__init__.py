"""The fault harness: a load of turns, a schedule of faults, and a checker that believes neither."""
