"""The embedded development stack: real Kafka, Cassandra, Redis and Triton as child processes, without Docker or root.

`turnstream.local_stack.stack.Stack` is the way in for tests, benches and the demonstration.
"""
