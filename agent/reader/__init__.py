"""Dispatch's end of the journal: exactly once, holes, receipts."""
