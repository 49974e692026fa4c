"""Inference: turns cleared by moderation, to tokens on the log."""
