"""The lock under which Paddle builds, traces and runs.

Paddle keeps the default dtype, and whether operations are traced or computed, for the whole process: two threads that
build at once mix their types, and one that computes while another traces crashes. A predictor serves one thread at a
time.
"""

from threading import RLock

LOCK = RLock()
