"""Clients and test suites of others, unmodified and at pinned versions, against a running Turnstream."""
