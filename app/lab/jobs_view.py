"""What waits for the device, and long work. A person sees their own, an administrator everybody's."""

from typing import Literal

from pydantic import Field

from app.core.jobs_view import JobView
from app.core.view import View


class TicketView(View):
    """One request on its way through a device."""

    device: str
    kind: str
    lane: Literal["interactive", "batch"]
    person: str
    state: Literal["running", "waiting"]
    ahead: int = Field(description="Requests that go before it as things stand, the running one included.")
    seconds: float = Field(description="Since it was sent.")


class QueueView(View):
    depth: int = Field(description="Requests waiting or running, everybody's.")
    rows: list[TicketView]


class JobsView(View):
    person: str
    is_admin: bool
    who: Literal["mine", "lab"]
    rows: list[JobView]
    queue: QueueView
