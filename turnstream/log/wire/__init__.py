"""Kafka's wire protocol, as far as the way of a turn needs it faster than aiokafka's client speaks it."""
