"""Where does work run that untrusted input can make expensive? In child processes with a budget; see `pool`."""

from workers.budgets import CHECK, DOCUMENT, MEMORY_BYTES, Budget
from workers.pool import Pool, open_workers, workers

__all__ = ["CHECK", "DOCUMENT", "MEMORY_BYTES", "Budget", "Pool", "open_workers", "workers"]
