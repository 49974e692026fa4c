"""``python -m turnstream`` is the command line."""

from turnstream.cli import main

main()
