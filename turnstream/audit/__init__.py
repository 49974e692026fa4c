"""Who operates, and what they did."""
