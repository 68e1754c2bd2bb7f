"""The in-vehicle agent: devices make events, rules records, the outbox keeps and the uplink delivers them."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036  # whoever starts a checkout with the computer's own Python
    sys.exit(f"Python 3.11 or newer is needed; this is {sys.version_info[0]}.{sys.version_info[1]}.")

__version__ = "0.1.0"

NOT_BEFORE = "2026-01-01"
"""No true date lies before it: the program is younger. Move it on now and then: a week counter that
rolls over takes dates back by almost twenty years, so that nothing hangs on the day. A test asks for that
after a year and a half; dates of files are no help, as a computer without a clock chip writes wrong ones."""
