"""The window program as a Lava process.

Lava's model search executes every file beside a process, so this package holds it and its arithmetic alone.
"""
