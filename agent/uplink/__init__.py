"""Topics, codec, MQTT session and publisher: the way to dispatch."""
