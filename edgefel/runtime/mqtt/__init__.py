"""Results of a stream to an MQTT broker, with entities for Home Assistant; needs the extra mqtt."""
