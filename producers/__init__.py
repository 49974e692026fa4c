"""Whatever writes a first event."""
