"""Resources that all owners share in a process: limits, threads, iterations of the event loop and caches.

Invariant: no owner's work, however much, can keep another owner from its share.
"""
