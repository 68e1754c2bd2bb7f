"""The configuration file: frozen models by subject, no unknown keys, units in the names."""

from agent.config.agent_file import Config, Reporting, Unit, load
from agent.config.buzzer import Buzzer
from agent.config.devices import (
    Baud,
    ButtonDevice,
    Buttons,
    CanDevice,
    Device,
    DeviceName,
    DevicePath,
    DiagnosticDevice,
    GnssDevice,
    Kinds,
    SampleDevice,
    SignalName,
)
from agent.config.panel import Panel
from agent.config.power import Power
from agent.config.reading import load_as, parse_toml, read_toml, validate
from agent.config.section import ConfigError, Host, Section, TopicLevel, from_file_folder
from agent.config.store import Recorder, Store
from agent.config.supervision import Log, Supervision
from agent.config.uplink import Broker, Secret, Tls, Uplink
from agent.config.vehicle import Driving, Impact, Service, VehicleSettings, Watch

__all__ = [
    "Baud",
    "Broker",
    "ButtonDevice",
    "Buttons",
    "Buzzer",
    "CanDevice",
    "Config",
    "ConfigError",
    "Device",
    "DeviceName",
    "DevicePath",
    "DiagnosticDevice",
    "Driving",
    "GnssDevice",
    "Host",
    "Impact",
    "Kinds",
    "Log",
    "Panel",
    "Power",
    "Recorder",
    "Reporting",
    "SampleDevice",
    "Secret",
    "Section",
    "Service",
    "SignalName",
    "Store",
    "Supervision",
    "Tls",
    "TopicLevel",
    "Unit",
    "Uplink",
    "VehicleSettings",
    "Watch",
    "from_file_folder",
    "load",
    "load_as",
    "parse_toml",
    "read_toml",
    "validate",
]  # fmt: skip
