"""Auth: who may ask which model in which conversation."""
