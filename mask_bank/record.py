"""How a composite's mask was found, as its lineage tells it."""

from collections.abc import Mapping

from .mask import HeadMask

RECORD = "composite"  # where a lineage keeps it


def has_reached(mask: HeadMask) -> bool | None:
    """Whether a composite's mask reached its target when it was composed; None where nobody measured it."""
    record = mask.lineage.get(RECORD)
    return bool(record["reached"]) if isinstance(record, Mapping) else None
