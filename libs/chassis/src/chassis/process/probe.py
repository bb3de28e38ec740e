"""Container health check without curl: `python -m chassis.process.probe` exits with 0 if the service is ready."""

import os
import sys
from http.client import HTTPConnection, HTTPException

TIMEOUT = 2  # seconds


def is_ready(port: int) -> bool:
    """Whether the service on this local port is ready."""
    connection = HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(0 if is_ready(int(os.environ["PORT"])) else 1)
