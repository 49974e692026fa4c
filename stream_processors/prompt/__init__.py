"""Prompt: what the model is given, fitted to its context."""
