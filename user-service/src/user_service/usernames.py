"""Username comparison."""

MAX_USERNAME_LENGTH = 50


def username_key(username: str) -> str:
    """The case-insensitive form of a username. Only ASCII is folded: other letters must not match ASCII ones."""
    return username.lower() if username.isascii() else username
