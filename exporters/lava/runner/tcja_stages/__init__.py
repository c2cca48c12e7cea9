"""Relays and neurons as Lava processes.

Lava's model search executes every file beside a process, so this package holds them and their arithmetic alone.
"""
