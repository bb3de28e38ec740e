"""Usernames: how they are compared."""

LONGEST_USERNAME = 50


def username_key(username: str) -> str:
    """What names are compared by, without regard to case; names are ASCII, and no other letter stands for theirs."""
    return username.lower() if username.isascii() else username
