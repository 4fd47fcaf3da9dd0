"""The memory of the service: readings, refusals, forecasts, plans, fronts, calibrations, the job journal, publications."""

from service.store.records import (
    DocumentRecord,
    JobRecord,
    Outcome,
    PlanRecord,
    PublicationRecord,
    PublicationState,
    Reading,
    RefusalRecord,
    RegimeRecord,
    Store,
)
from service.store.sql import SqlStore

__all__ = [
    "DocumentRecord",
    "JobRecord",
    "Outcome",
    "PlanRecord",
    "PublicationRecord",
    "PublicationState",
    "Reading",
    "RefusalRecord",
    "RegimeRecord",
    "SqlStore",
    "Store",
]
