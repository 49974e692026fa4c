"""The answer to its client: the reading half of the edge."""
