"""Lists, pins, histories and the devices' queues as views."""

import time

from app.core.access.gate import Identity
from app.core.notes import may_change, target_href
from app.core.plain import when
from app.core.residency.host import ModelHost
from app.core.store.tables import NeuronList, Pin, Revision
from app.lab.jobs_view import QueueView, TicketView
from app.lab.view import ListView, PinRow, RevisionView


def neuron_list(found: NeuronList, identity: Identity) -> ListView:
    return ListView(
        id=found.id,
        name=found.name,
        description=found.description,
        model=found.model,
        neurons=found.neurons,
        author=found.author,
        created=when(found.created),
        updated=when(found.updated),
        mine=may_change(found.author, identity),
        ablation=" ".join(f"{neuron}:mean" for neuron in found.neurons),
    )


def revision(found: Revision) -> RevisionView:
    return RevisionView(author=found.author, at=when(found.at), body=found.body)


def pin(found: Pin, root: str) -> PinRow:
    return PinRow(target=found.target, href=target_href(found.target, root), created=when(found.created))


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
