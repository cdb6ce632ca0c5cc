"""The development stack: a real Valkey on a private socket, and `celery plet up`."""
