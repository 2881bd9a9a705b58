"""The lab's commands alone, as `python -m migrator.lab`."""

import sys

from migrator.errors import MigratorError
from migrator.lab.commands import lab_app

try:
    lab_app()
except MigratorError as error:
    print(f"error: {error}" + (f"\n  {error.remedy}" if error.remedy else ""), file=sys.stderr)
    sys.exit(error.exit_code)
