"""Topic in, outside world out; and the one consume loop that every stage runs on."""
