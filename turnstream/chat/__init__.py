"""A chat client for the terminal: a small reader of our own API, and the conversation around it."""
