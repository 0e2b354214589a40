"""Sums over a log interval, and the time that is left. Numbers in, numbers out."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Stopwatch:
    """Mean duration of one kind of work."""

    total_s: float = 0.0
    count: int = 0

    def add(self, seconds: float) -> None:
        """One more."""
        self.total_s += seconds
        self.count += 1

    @property
    def mean_s(self) -> float:
        """0 before the first."""
        return self.total_s / self.count if self.count else 0.0


@dataclass
class Clock:
    """What this attempt spent on steps, validations and saves, each apart."""

    steps: Stopwatch = field(default_factory=Stopwatch)
    validations: Stopwatch = field(default_factory=Stopwatch)
    saves: Stopwatch = field(default_factory=Stopwatch)

    def eta_s(self, step: int, max_steps: int, eval_every: int, save_every: int) -> float:
        """Time from after `step` to after the last step."""
        return (
            (max_steps - step) * self.steps.mean_s
            + (max_steps // eval_every - step // eval_every) * self.validations.mean_s
            + (max_steps // save_every - step // save_every) * self.saves.mean_s
        )


@dataclass
class Window:
    """Steps since the last log record. Losses and scalars are weighted, as the gradients are."""

    steps: int = 0
    weight: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)
    audio_s: float = 0.0
    elapsed_s: float = 0.0

    def add(self, weight: float, sums: dict[str, float], audio_s: float, elapsed_s: float) -> None:
        """One step; `sums` are not yet divided by `weight`."""
        self.steps += 1
        self.weight += weight
        for name, value in sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.audio_s += audio_s
        self.elapsed_s += elapsed_s

    def means(self) -> dict[str, float]:
        """Means per unit of weight, and rates per second of training (not of validation)."""
        elapsed_s = max(self.elapsed_s, 1e-9)
        return {
            **{name: value / self.weight for name, value in self.sums.items() if self.weight},
            "audio_s_per_s": self.audio_s / elapsed_s,
            "steps_per_s": self.steps / elapsed_s,
        }
