"""The in-vehicle agent: devices make events, rules records, the outbox keeps and the uplink delivers them."""

__version__ = "0.1.0"
