"""Windowed usage: a Faust worker that rolls ``usage.events.v1`` up per user, model and minute."""
