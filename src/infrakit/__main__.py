"""`python -m infrakit` is the same as `infrakit`."""

import sys

from infrakit.cli.main import main

sys.exit(main())
