"""`python -m hesse` is the command `hesse`."""

import sys

from hesse.cli import main

sys.exit(main())
