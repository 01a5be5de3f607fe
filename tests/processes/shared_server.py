"""Starts a server that shares its store with others, which no setting allows: `python shared_server.py`.

`LEASE_S` is the lease in seconds.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from server import main
from store.ports import Sharing

if __name__ == "__main__":
    main(sharing=Sharing(lease_s=float(os.environ["LEASE_S"])))
