"""Dead letters for people: which there are, why, and what they say without their content."""
