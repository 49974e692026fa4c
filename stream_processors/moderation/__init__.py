"""Moderation: which turns and answers the policy lets pass."""
