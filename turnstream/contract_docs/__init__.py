"""The contract as documents: JSON Schema, AsyncAPI and an events reference, all derived from ``schemas``."""
