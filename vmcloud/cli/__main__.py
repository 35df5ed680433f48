"""``python -m vmcloud.cli``."""

import sys

from .main import main

sys.exit(main())
