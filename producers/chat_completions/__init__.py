"""OpenAI's Chat Completions API: requests, and completions that are stored."""
