"""Where a function of one number crosses 0, its values given one at a time: work in slices looks for it."""

from __future__ import annotations


class Crossing:
    """Where a function of one number that rises from ``low`` to ``high`` crosses 0: look ``at`` it, `take` its value.

    Regula falsi with the Illinois rule (Dowell and Jarratt 1971); an end where no change of sign lies between them.
    """

    TOLERANCE = 1e-5  # nats: what float32 tells apart
    MOST = 40

    def __init__(self, low: float, high: float) -> None:
        self.at, self.done, self.looked = low, False, 0
        self._ends, self._values = [low, high], list[float]()
        self._side = -1

    def take(self, value: float) -> None:
        self.looked += 1
        if len(self._values) < 2:
            self._values.append(value)
            if len(self._values) == 1:
                self.done = value >= 0
                self.at = self.at if self.done else self._ends[1]
                return
            self.done = value <= 0
        else:
            here = 0 if value < 0 else 1
            self._ends[here], self._values[here] = self.at, value
            if self._side == here:  # Illinois: the end that stays counts half
                self._values[1 - here] /= 2
            self._side = here
        close = abs(value) < self.TOLERANCE or abs(self._ends[1] - self._ends[0]) < 1e-12
        self.done = self.done or close or self.looked >= self.MOST
        if not self.done:
            (a, b), (f, g) = self._ends, self._values
            self.at = b - g * (b - a) / (g - f)
