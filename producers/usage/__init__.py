"""OpenAI's usage and costs APIs, for one's own usage."""
