"""What every API of the edge shares: bodies, errors, exchanges, and who asks."""
