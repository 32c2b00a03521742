"""Judges solutions by what they do: the pytest plugin, isolated runs, the learner's loop, the course's own checks."""
