"""A cluster of three RabbitMQ nodes on loopback, units that speak to it, and what is done to it."""
