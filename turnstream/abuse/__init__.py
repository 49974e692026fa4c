"""What operators see and do of abuse signals."""
