"""Which items are shown without the network's answer, asked twice, followed by a known answer or audited: drawn once, for good."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Literal

from core.errors import Invalid

Arm = Literal["blind", "second", "known", "audit"]


def arm(item_id: str, policy_id: int | str, salt: str, name: str) -> float:
    """The item's draw for an arm, in [0, 1): uniform, the same after every restart, and independent of its other draws.

    HMAC with SHA-256 (RFC 2104), the salt its key: who does not know the salt cannot tell which items are watched.
    """
    if not salt:
        raise Invalid("The draw of shares has no salt.", "Give it a secret text that stays the same.")
    parts = [part.encode() for part in (str(item_id), str(policy_id), name)]
    message = b"".join(len(part).to_bytes(4, "big") + part for part in parts)  # of different parts never the same message
    digest = hmac.digest(salt.encode(), message, "sha256")
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53  # as many bits as a float holds


def arms(item_id: str, policy_id: int | str, salt: str, shares: Mapping[Arm, float]) -> frozenset[Arm]:
    """The arms an item falls in, each with the probability given, of [0, 1]; a larger share keeps all that were in the smaller one."""
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise Invalid(f"The share of “{name}” is {share:g}.", "It lies between 0 and 1.")
    return frozenset(name for name, share in shares.items() if arm(item_id, policy_id, salt, name) < share)
