"""Base images by digest, in Dockerfiles and in docker-compose.yml."""

import functools
import re
import subprocess
from collections.abc import Callable

from tools.console import CommandError
from tools.processes import run

_IMAGE = re.compile(r"^(FROM |\s*image: )([\w./-]+:[\w.-]+)(?:@sha256:[0-9a-f]{64})?(?=\s|$)", re.MULTILINE)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def pinned(text: str, digest_of: Callable[[str], str]) -> str:
    """The text with the present digest behind the tag of each image; tags stay, for people and for the next time."""
    return _IMAGE.sub(lambda image: f"{image[1]}{image[2]}@{digest_of(image[2])}", text)


@functools.cache
def registry_digest(image: str) -> str:
    """The digest that the registry has for an image with this tag, for all platforms; raises CommandError."""
    words = ["docker", "buildx", "imagetools", "inspect", image, "--format", "{{.Manifest.Digest}}"]
    try:
        answer = run(words, stdout=subprocess.PIPE)
    except FileNotFoundError:
        raise CommandError("Pinning images needs Docker.") from None
    digest = str(answer.stdout or "").strip()
    if answer.returncode != 0 or not _DIGEST.fullmatch(digest):
        raise CommandError(f"The registry gave no digest for {image}. Nothing was changed.")
    return digest
