"""The composition root: one file per process says which adapters stand behind which ports."""
