"""Starts a server that shares its store with others, which no setting allows: `python shared_server.py`.

Other arguments are ignored. The lease is shorter than usual, so that tests need not wait for long.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from server import main
from store.backend import Sharing

if __name__ == "__main__":
    main([], sharing=Sharing(lease_s=3.0, beat_s=0.5, poll_s=0.25))
