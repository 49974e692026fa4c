"""Cassandra as this project uses it: the ``Cql`` port, the tables, and what the shell reads and writes itself."""
