"""The contract: what two processes must agree on. No network, no clock."""
