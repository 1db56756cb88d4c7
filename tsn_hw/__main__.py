"""``python -m tsn_hw``: the command line. A sim.py or export.py in the working directory is not imported for ours."""

import sys
from pathlib import Path

if Path(sys.path[0] or ".").resolve() != Path(__file__).parents[1]:
    del sys.path[0]  # the working directory, which python -m puts there

from tsn_hw.app.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
