"""Usage events to the table behind the usage API."""
