"""The compute ledger: who spent what on which phase, and a budget that refuses before it is overspent.

Charged at the model boundary (harness.models.meter hooks every model), so no trainer can forget to. The unit that binds is
FLOPs under convention `flops-v1` (harness.core.flops). Labels, annotator comparisons, external queries and verifier calls are counters
beside it. Caps on tokens, labels, device seconds or dollars may stand beside the budget and refuse as it does; after a refused charge
nothing remains. The unit that methods plan with stays FLOPs: a step's FLOPs can be computed before it is taken, its seconds cannot.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from harness.core.energy import EnergyMeter, machine_energy
from harness.core.trackers import Tracker
from harness.errors import BudgetExceeded, CapReached

Phase = Literal["generate", "execute", "review", "embed", "reward", "reference", "update", "policy", "score", "tune"]
Account = Literal["train", "tune", "eval"]
Counter = Literal["demonstrations", "comparisons", "queries", "verifications"]
PHASES: tuple[Phase, ...] = get_args(Phase)
COUNTERS: tuple[Counter, ...] = get_args(Counter)


@dataclass(frozen=True)
class Charge:
    """One amount of compute: floating-point operations, real and padding tokens, for one phase on one model."""

    account: Account
    phase: Phase
    model: str
    flops: float
    tokens: int
    padding: int


@dataclass
class _Entry:
    flops: float = 0.0
    tokens: int = 0
    padding: int = 0
    calls: int = 0
    wall_s: float = 0.0
    energy_j: float | None = None


@dataclass(frozen=True)
class Observation:
    """One point of a training curve, placed on the spend axis: `value` of `curve` when `train_flops` had been spent."""

    curve: str
    step: int
    train_flops: float
    wall_s: float
    value: float


@dataclass(frozen=True)
class Caps:
    """Limits beside the FLOP budget; None: no such limit. Those on seconds and dollars make the end of a run depend on the machine's speed.

    Attributes:
        tokens: real tokens computed by any model, padding apart.
        labels: demonstrations and comparisons.
        seconds: wall time since the ledger was opened.
        usd: dollars by `price`, which is given the counters and the wall seconds so far.
    """

    tokens: int | None = None
    labels: int | None = None
    seconds: float | None = None
    usd: float | None = None
    price: Callable[[Mapping[str, int], float], float] | None = None


class Ledger:
    """Accumulates charges and refuses those of the bound account that would exceed the budget.

    Args:
        train_flops: the binding budget in FLOPs; None means unlimited (scoring).
        account: the account that charges go to until `use_account` changes it.
        bound: the account that the budget binds: "train", or "tune" while settings are searched.
        caps: further limits on the bound account.
        on_change: called (at most every 0.5 s) with the ledger, to report progress.
        energy: the counters that phases are booked by; this machine's by default.
    """

    def __init__(
        self,
        train_flops: float | None = None,
        *,
        account: Account = "train",
        bound: Account = "train",
        caps: Caps | None = None,
        on_change: Callable[[Ledger], None] | None = None,
        energy: EnergyMeter | None = None,
    ) -> None:
        assert train_flops is None or train_flops > 0, train_flops
        self.train_flops = train_flops
        self.account: Account = account
        self.bound: Account = bound
        self.caps = caps or Caps()
        self.capped = ""
        """Which cap has refused compute, if one has, in words."""
        self.counters: dict[str, int] = dict.fromkeys(COUNTERS, 0)
        self.curves: list[Observation] = []
        self.notes: list[str] = []
        self.tracker: Tracker | None = None
        """Gets every point of a curve as well; the seconds that it takes are in no time that the ledger tells."""
        self._phase: Phase = "update"
        self._energy = energy or machine_energy()
        self._entries: dict[tuple[Account, Phase, str], _Entry] = defaultdict(_Entry)
        self._started = self._now()
        self._on_change, self._last_change = on_change, 0.0
        self._steps: dict[str, int] = defaultdict(int)
        self._marks_flops: list[float] = []
        self._on_mark: Callable[[float], None] | None = None

    def watch(self, marks_flops: Sequence[float], on_mark: Callable[[float], None]) -> None:
        """Has `on_mark` called with each of `marks_flops` just before the charge that takes the bound account past it.

        A model's weights are then those after the last complete update.
        """
        self._marks_flops, self._on_mark = sorted(marks_flops), on_mark

    @property
    def phase(self) -> Phase:
        """The phase that charges are booked under now."""
        return self._phase

    @contextmanager
    def use_phase(self, phase: Phase) -> Iterator[None]:
        """Books every charge inside the block, whatever model makes it, under `phase`; the innermost block wins."""
        assert phase in PHASES, phase
        before, self._phase = self._phase, phase
        started, started_j = self._now(), self._energy.read_j()
        inner, inner_j = self._wall_booked(), self._energy_booked()
        try:
            yield
        finally:
            # Time and energy belong to the innermost phase: what nested blocks booked is taken off this one's share.
            entry = self._entries[self.account, phase, ""]
            entry.wall_s += self._now() - started - (self._wall_booked() - inner)
            ended_j = self._energy.read_j()
            if started_j is not None and ended_j is not None:
                entry.energy_j = (entry.energy_j or 0.0) + ended_j - started_j - (self._energy_booked() - inner_j)
            self._phase = before

    @contextmanager
    def use_account(self, account: Account) -> Iterator[None]:
        """Books every charge inside the block to `account`."""
        before, self.account = self.account, account
        try:
            yield
        finally:
            self.account = before

    def _wall_booked(self) -> float:
        return sum(entry.wall_s for entry in self._entries.values())

    def _energy_booked(self) -> float:
        return sum(entry.energy_j or 0.0 for entry in self._entries.values())

    def spent(self, account: Account | None = None) -> float:
        """FLOPs booked to `account` (by default the bound one) so far."""
        booked = account or self.bound
        return sum(entry.flops for (name, _, _), entry in self._entries.items() if name == booked)

    def tokens(self, account: Account | None = None) -> int:
        """Real tokens booked to `account` (by default the bound one) so far."""
        booked = account or self.bound
        return sum(entry.tokens for (name, _, _), entry in self._entries.items() if name == booked)

    def remaining(self) -> float:
        """FLOPs left in the budget (infinite without one; none once a cap has refused compute)."""
        if self.capped:
            return 0.0
        return float("inf") if self.train_flops is None else self.train_flops - self.spent()

    def affords(self, flops: float) -> bool:
        """Whether the budget would accept a charge of `flops` now."""
        return self.account != self.bound or flops <= self.remaining()

    def charge(self, model: str, flops: float, tokens: int, padding: int = 0) -> Charge:
        """Books one charge under the current account and phase.

        Call it *before* the computation it pays for.

        Raises:
            BudgetExceeded: the bound account has less than `flops` left, or (CapReached) a cap has no room; nothing is booked.
        """
        assert min(flops, tokens, padding) >= 0, (flops, tokens, padding)
        self._refuse_beyond_caps(tokens=tokens)
        if not self.affords(flops):
            raise BudgetExceeded(
                f"{self._phase} on {model} needs {flops:.3g} FLOPs, {self.remaining():.3g} of {self.train_flops:.3g} are left"
            )
        while self._marks_flops and self.account == self.bound and self.spent() + flops > self._marks_flops[0]:
            assert self._on_mark is not None
            self._on_mark(self._marks_flops.pop(0))
        entry = self._entries[self.account, self._phase, model]
        entry.flops += flops
        entry.tokens += tokens
        entry.padding += padding
        entry.calls += 1
        self._changed()
        return Charge(self.account, self._phase, model, flops, tokens, padding)

    def count(self, counter: Counter, amount: int = 1) -> None:
        """Adds to a label, comparison, query or verification counter; call it before the label or answer is handed out.

        Raises:
            CapReached: a cap has no room for them; nothing is counted.
        """
        assert counter in COUNTERS, counter
        assert amount >= 0, amount
        if amount:
            self._refuse_beyond_caps(counter=counter, amount=amount)
        self.counters[counter] += amount

    def _refuse_beyond_caps(self, *, tokens: int = 0, counter: Counter | None = None, amount: int = 0) -> None:
        if self.account != self.bound or self.caps == Caps():
            return
        counters = dict(self.counters)
        if counter:
            counters[counter] += amount
        totals: dict[str, tuple[float, float | None]] = {
            "tokens": (self.tokens() + tokens, self.caps.tokens),
            "labels": (counters["demonstrations"] + counters["comparisons"], self.caps.labels),
            "seconds": (self.wall_s(), self.caps.seconds),
            "usd": (self.caps.price(counters, self.wall_s()) if self.caps.price else 0.0, self.caps.usd),
        }
        for name, (total, limit) in totals.items():
            if limit is not None and total > limit:
                told = f"{counter or self._phase} would take the {name} to {total:.6g}; the study's cap is {limit:.6g}"
                if counter is None:
                    self.capped = told
                raise CapReached(told)

    def observe(self, curve: str, value: float) -> None:
        """Adds a point to a training curve (loss, reward ...) at the present spend."""
        self._steps[curve] += 1
        self.curves.append(Observation(curve, self._steps[curve], self.spent(), self.wall_s(), float(value)))
        self.report({curve: float(value)})
        self._changed()

    def report(self, values: Mapping[str, float]) -> None:
        """Hands values to the tracker, if there is one, at the present spend; nothing of them is kept."""
        if self.tracker is not None:
            self.tracker.log(values, self.spent())

    def note(self, text: str) -> None:
        """Remembers something the user should know of this stage (examples left out, say), once; written to its meta.json."""
        if text not in self.notes:
            self.notes.append(text)

    def wall_s(self) -> float:
        """Seconds since the ledger was opened, a tracker's apart."""
        return self._now() - self._started

    def _now(self) -> float:
        return time.monotonic() - (self.tracker.spent_s if self.tracker is not None else 0.0)

    def rows(self) -> list[dict[str, Any]]:
        """One row per (account, phase, model): flops, tokens, padding, calls, wall_s, energy_j.

        Time and energy stand on rows with model ""; energy is None everywhere on a machine without a counter.
        """
        return [
            {"account": account, "phase": phase, "model": model, **vars(entry)}
            for (account, phase, model), entry in sorted(self._entries.items())
        ]

    def state(self) -> dict[str, Any]:
        """All that has been booked so far, as JSON for `resume`."""
        return {
            "entries": [{"key": list(key), **vars(entry)} for key, entry in self._entries.items()],
            "counters": self.counters,
            "curves": [asdict(point) for point in self.curves],
            "notes": self.notes,
            "capped": self.capped,
            "wall_s": self.wall_s(),
            "marks_flops": self._marks_flops,
        }

    def resume(self, state: Mapping[str, Any]) -> None:
        """Goes on from what another ledger of the same budget, caps and marks had booked, its seconds included."""
        assert not self.spent(), "only a fresh ledger can take over another's charges"
        # In the order of booking: sums of floats depend on it.
        for row in state["entries"]:
            account, phase, model = row["key"]
            self._entries[account, phase, model] = _Entry(**{key: value for key, value in row.items() if key != "key"})
        self.counters = dict(state["counters"])
        self.curves = [Observation(**point) for point in state["curves"]]
        for point in self.curves:
            self._steps[point.curve] = point.step
        self.notes, self.capped = list(state["notes"]), state["capped"]
        self._started = time.monotonic() - state["wall_s"]
        self._marks_flops = list(state["marks_flops"])

    def _changed(self) -> None:
        now = time.monotonic()
        if self._on_change and now - self._last_change >= 0.5:
            self._last_change = now
            self._on_change(self)
