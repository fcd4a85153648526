"""``python -m m2dao_client``: the same as the command `m2dao-client`."""

import sys

from m2dao_client.command.main import main

sys.exit(main())
