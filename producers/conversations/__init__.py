"""Conversations: their messages and what their owner may do with them."""
