"""Why a target is missed, by the title of its case or a prefix of it: kept beside the cases, printed under the table.

A reason says what was found by profiling, not what is hoped for. A missed target without a reason is listed as such.
"""

from __future__ import annotations

REASONS: dict[str, str] = {
    "pairwise sqrt": "CasADi SX has the 1770 pairs as scalar instructions, with what they share computed once; "
                     "building that takes it about a second.",
    "Lennard-Jones": "As for the pairwise energy: CasADi SX has every pair as scalar instructions.",
}


def reason_for(title: str) -> str:
    return next((text for prefix, text in REASONS.items() if title.startswith(prefix)), "not yet explained")
