"""Shadow runs: recorded turns through other rules, prompts or models, without any effect, and what changed."""
