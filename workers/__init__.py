"""Runs work that untrusted input can make expensive, in child processes with a budget; see `pool`."""

from workers.budgets import CHECK, DOCUMENT, Budget
from workers.pool import Pool, open_workers, workers
from workers.process import child_environment

__all__ = ["CHECK", "DOCUMENT", "Budget", "Pool", "child_environment", "open_workers", "workers"]
