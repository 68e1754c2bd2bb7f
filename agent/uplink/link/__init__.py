"""One MQTT connection."""
