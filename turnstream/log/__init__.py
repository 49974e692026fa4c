"""The log on Kafka: aiokafka adapters of the log ports, and the administration of topics."""
