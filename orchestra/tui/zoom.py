"""Which part of the x axis is shown, and how it moves. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from orchestra.tui.lines import View

_CLOSEST = 1e-6  # of the whole


@dataclass(frozen=True)
class Zoom:
    """`part` of `extent`; None: all of it. `tail`: its end moves with the newest point."""

    extent: tuple[float, float] = (0.0, 1.0)
    part: tuple[float, float] | None = None
    tail: bool = True

    @property
    def shown(self) -> tuple[float, float]:
        """What is on the screen."""
        return self.part or self.extent

    def on(self, view: View) -> View:
        """The view of it."""
        return replace(view, shown=self.shown, zoomed=self.part is not None)

    def within(self, extent: tuple[float, float]) -> Zoom:
        """Of curves that reach from here to there now."""
        if self.part is None or extent == self.extent:
            return replace(self, extent=extent)
        low, high = self.part
        moved = extent[1] - self.extent[1] if self.tail else 0.0
        return _clipped(replace(self, extent=extent), low + moved, high + moved)

    def by(self, factor: float, around: float | None) -> Zoom:
        """So many times as much; `around` stays where it is, else the end if it is seen."""
        low, high = self.shown
        if around is None or not low <= around <= high:
            around = high if self.tail else (low + high) / 2
        return _clipped(self, around - (around - low) * factor, around + (high - around) * factor)

    def panned(self, share: float) -> Zoom:
        """Moved by such a part of what is seen; not beyond the ends."""
        if self.part is None:
            return self
        low, high = self.part
        by = (high - low) * share
        by = min(max(by, self.extent[0] - low), self.extent[1] - high)
        return _clipped(self, low + by, high + by)

    def all(self) -> Zoom:
        """Everything."""
        return Zoom(self.extent)


def _clipped(zoom: Zoom, low: float, high: float) -> Zoom:
    least, most = zoom.extent
    low, high = max(low, least), min(high, most)
    if high - low >= (most - least) * 0.999:
        return Zoom(zoom.extent)
    if high - low < (most - least) * _CLOSEST:
        return zoom
    return Zoom(zoom.extent, (low, high), tail=high >= most)
