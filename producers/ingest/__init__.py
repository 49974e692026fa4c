"""HTTP to turns: the writing half of the edge."""
