"""Stores answers: ``chat.tokens.v1`` into Cassandra and the hot contexts."""
