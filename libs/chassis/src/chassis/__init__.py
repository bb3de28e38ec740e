"""The shared base of the services: functions that a service calls, not a framework that it extends."""

__version__ = "0.1.0"
