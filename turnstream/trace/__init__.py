"""The way of one turn, told from the log: find its records, make sense of them, show them."""
