"""What operators do, told on ``operations.audit.v1`` before it is done and again with what came of it."""
