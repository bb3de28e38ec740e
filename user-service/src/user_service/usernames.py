"""Usernames: which there are, and their comparison."""

import re

MAX_USERNAME_LENGTH = 50
USERNAME = re.compile(r"[A-Za-z0-9._-]{3,50}")
RULE = "3 to 50 letters (A to Z, a to z), digits, dots, hyphens or underscores"
"""`USERNAME`, for people."""


def username_key(username: str) -> str:
    """The case-insensitive form of a username. Only ASCII is folded: other letters must not match ASCII ones."""
    return username.lower() if username.isascii() else username
