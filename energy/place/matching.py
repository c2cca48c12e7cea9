"""Assigning a different place to each task (bipartite matching by augmenting paths)."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["one_each"]


def one_each(options: Sequence[Sequence[int]]) -> list[int] | None:
    """A different place for every task, given the places that suit each one; `None` if there is no such assignment."""
    holder: dict[int, int] = {}

    def settle(task: int, asked: set[int]) -> bool:
        for place in options[task]:
            if place not in asked:
                asked.add(place)
                if place not in holder or settle(holder[place], asked):
                    holder[place] = task
                    return True
        return False

    if not all(settle(task, set()) for task in range(len(options))):
        return None
    chosen = {task: place for place, task in holder.items()}
    return [chosen[task] for task in range(len(options))]
