"""The devices' queues as a view."""

import time

from app.residency.host import ModelHost
from app.views.jobs import QueueView, TicketView


def queue(host: ModelHost, person: str | None) -> QueueView:
    """What runs or waits, first turn first; only `person`'s, where one is named. The depth is everybody's."""
    now, rows, depth = time.monotonic(), [], 0
    for device, worker in host.workers.items():
        tickets = worker.tickets()
        depth += len(tickets)
        rows += [
            TicketView(
                device=device,
                kind=ticket.kind,
                lane=ticket.lane,
                person=ticket.who,
                state="running" if ticket.future.running() else "waiting",
                ahead=place,
                seconds=now - ticket.submitted,
            )
            for place, ticket in enumerate(tickets)
            if person in (None, ticket.who)
        ]
    return QueueView(depth=depth, rows=rows)
