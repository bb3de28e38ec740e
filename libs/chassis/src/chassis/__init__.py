"""The shared base of the services: functions that a service calls, not a framework that it extends."""

__version__ = "1.0.0"
