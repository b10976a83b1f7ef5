"""What a case is held to: a ratio to a peer, or a limit of its own; and what became of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Figure = Literal["hot", "cold"]
OURS = "Hesse"


@dataclass(frozen=True, slots=True)
class Ratio:
    """The peer's median divided by ours is at least this; `against` is a prefix of the peer's name, '' the fastest."""

    at_least: float
    against: str = ""
    figure: Figure = "hot"
    ours: str = OURS

    def __str__(self) -> str:
        kind = "" if self.figure == "hot" else f"{self.figure}, "
        return f"{kind}≥ {self.at_least:g} × {self.against or 'best peer'}"


@dataclass(frozen=True, slots=True)
class Limit:
    """Our own median, divided by `per` where that is given, is at most this many seconds."""

    at_most: float
    figure: Figure = "hot"
    per: int = 1
    of: str = ""  # what is counted by `per`
    ours: str = OURS

    def __str__(self) -> str:
        kind = "" if self.figure == "hot" else f"{self.figure}, "
        return f"{kind}≤ {seconds_text(self.at_most)}{f' a {self.of}' if self.of else ''}"


Claim = Ratio | Limit


@dataclass(frozen=True, slots=True)
class Verdict:
    """One line of the table of targets. `ratio` is the peer's figure over ours, None where there is none."""

    case: str
    target: str
    ours: str
    peer: str
    ratio: float | None
    outcome: Literal["pass", "miss", "not supported yet", "no peer"]
    note: str = ""


def judge(
    title: str, claim: Claim, medians: Mapping[str, float], others: Mapping[str, str], unjudged: Sequence[str]
) -> Verdict:
    """`medians`: seconds by contender; `others`: why a contender has none; `unjudged`: measured, but no rival."""
    target = str(claim)
    if claim.ours not in medians:
        note = others.get(claim.ours, "not measured")
        return Verdict(title, target, note, "", None, "not supported yet", note)
    mine = medians[claim.ours]
    if isinstance(claim, Limit):
        each = mine / claim.per
        shown = seconds_text(each) + (f" a {claim.of}" if claim.of else "")
        return Verdict(title, target, shown, "", None, "pass" if each <= claim.at_most else "miss")
    rivals = {name: s for name, s in medians.items()
              if not name.startswith(OURS) and name not in unjudged and name.startswith(claim.against)}
    missing = "; ".join([f"{n}: {why}" for n, why in others.items()
                         if not n.startswith(OURS) and n.startswith(claim.against)])
    if not rivals:
        return Verdict(title, target, seconds_text(mine), "", None, "no peer", missing)
    name = min(rivals, key=lambda n: rivals[n])
    ratio = rivals[name] / mine
    outcome: Literal["pass", "miss"] = "pass" if ratio >= claim.at_least else "miss"
    return Verdict(title, target, seconds_text(mine), f"{seconds_text(rivals[name])} ({name})", ratio, outcome, missing)


def seconds_text(seconds: float) -> str:
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds * factor >= 1.0:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"
