"""AddCause (IEC 61850-7-2 clause 20): why a command was refused."""

from __future__ import annotations

ADD_CAUSE = {
    "unknown": 0,
    "not-supported": 1,
    "blocked-by-switching-hierarchy": 2,
    "select-failed": 3,
    "invalid-position": 4,
    "position-reached": 5,
    "parameter-change-in-execution": 6,
    "step-limit": 7,
    "blocked-by-mode": 8,
    "blocked-by-process": 9,
    "blocked-by-interlocking": 10,
    "blocked-by-synchrocheck": 11,
    "command-already-in-execution": 12,
    "blocked-by-health": 13,
    "1-of-n-control": 14,
    "abortion-by-cancel": 15,
    "time-limit-over": 16,
    "abortion-by-trip": 17,
    "object-not-selected": 18,
    "object-already-selected": 19,
    "no-access-authority": 20,
    "abortion-by-communication-loss": 23,
    "abortion-by-command": 24,
    "none": 25,
    "inconsistent-parameters": 26,
    "locked-by-other-client": 27,
}
"""AddCause by name (IEC 61850-7-2 table 'AddCause'); a command's cause may be one of these names."""


def add_cause(cause: str) -> int:
    """Return the AddCause of a refused command: by its name, which a text may follow, else blocked-by-process."""
    name = cause.partition(":")[0].strip().lower().replace(" ", "-")
    return ADD_CAUSE.get(name, ADD_CAUSE["blocked-by-process"])
