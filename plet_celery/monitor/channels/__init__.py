"""Ways to tell somebody of an alert, a module each."""

from plet_celery.monitor.channels.channel import Channel, Undelivered

__all__ = ["Channel", "Undelivered"]
