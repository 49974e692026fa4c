"""How much of everything a number of users needs: formulas over measured and assumed figures, and a simulation."""
