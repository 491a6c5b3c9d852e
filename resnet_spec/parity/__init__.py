"""Whether backends compute the same network, where they part, and who is wrong.

``case``: what is compared. ``record``: what one backend makes of it. ``compare``: two records, by gates. ``locate``: which part is to blame.
``worker`` and ``pool``: each backend in a process of its own. ``shrink``: the smallest network that still differs. ``generate``: random ones.
"""
