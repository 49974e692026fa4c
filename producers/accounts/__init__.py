"""Accounts over HTTP: registration, sessions, API keys, and the users of a tenant."""
