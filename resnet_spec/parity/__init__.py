"""Check that backends compute the same network, and find the part and the backend at fault if they do not.

In the order of use: ``case`` says what is compared, ``recorder`` runs it in one backend, ``compare`` compares two
records by their gates, and ``examine`` does so for several ``runner``s. ``reference`` and ``slopes`` give what the
reference does not compute itself. ``rounding``, ``locate`` and ``gradient_check`` explain a difference, and
``minimize`` shrinks the network. ``processes`` and ``worker`` run each backend in a process of its own; ``sweep``
examines many cases.
"""
