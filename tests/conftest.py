"""What holds for every test."""

import os

from hypothesis import settings

# A machine that is busy makes a fast example slow, which says nothing about the code. In continuous integration the
# examples are the same in every run; at a desk they are new ones each time.
settings.register_profile("desk", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "desk")
