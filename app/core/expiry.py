"""What has an age goes when it is over: looked for when the program starts and every hour after."""

import asyncio
import logging
import time
from collections.abc import Callable

from analysis.types import NullscopeError
from app.core import offloop

log = logging.getLogger(__name__)
Rule = Callable[[float], object]  # (now, in seconds since 1970): removes what is too old
HOUR, DAY = 3600.0, 86_400.0  # seconds


def tidy(rules: tuple[Rule, ...], now: float) -> None:
    """Each rule by itself: one that cannot be followed now holds up no other. Reads and writes files."""
    for rule in rules:
        try:
            rule(now)
        except (NullscopeError, OSError) as error:
            log.warning("what is too old stays for now: %s", error)


async def every_hour(*rules: Rule) -> None:
    """Until it is cancelled."""
    while True:
        await offloop.write(tidy, rules, time.time())
        await asyncio.sleep(HOUR)
