"""`python -m modeling_siasamrea` is the command `siasamrea`."""

import sys

from .commands.siasamrea_command import main


sys.exit(main())
