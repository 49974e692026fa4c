"""Rate limit: requests and tokens per minute, reserved before a turn and settled after it."""
