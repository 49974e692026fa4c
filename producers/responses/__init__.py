"""OpenAI's Responses API: responses that are made, read, streamed again, stopped and deleted."""
