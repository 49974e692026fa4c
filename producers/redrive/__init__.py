"""Dead letters: what they are, what became of them, and their way back to the topics from which they came."""
