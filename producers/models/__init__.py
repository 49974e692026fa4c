"""OpenAI's Models API."""
