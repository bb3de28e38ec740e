"""What the tests of the whole project share; in no image and no wheel of a service."""

__version__ = "0.1.0"
