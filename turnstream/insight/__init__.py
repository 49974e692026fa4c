"""How far the pipeline is: lag of the groups, rates and waits of the stages, turns as spans."""
