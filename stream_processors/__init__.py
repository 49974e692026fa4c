"""Topic in, topic out: the stages between the edge and the GPU."""
