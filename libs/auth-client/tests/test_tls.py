"""The seam over TLS: a token is shown only to whom an authority vouches for, a well-known one or the operator's own."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from auth_client.caller import Caller
from auth_client.client import AuthClient
from auth_client.errors import AuthUnavailable
from testkit.faulty_user_service import answer, valid
from testkit.user_service_stub import ADA


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate of localhost that vouches for itself, with its key behind it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(hours=1))
        .not_valid_after(datetime.now(UTC) + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = tmp_path / "certificate.pem"
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM) + text)
    return file


@pytest.fixture
async def port(certificate: Path) -> AsyncIterator[int]:
    """Of a user service that has this certificate, and takes every token for a good one."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}")
        writer.write(answer(valid(), Connection="close"))
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(("host", "trusted"), [("localhost", True), ("localhost", False), ("127.0.0.1", True)])
async def test_only_who_is_vouched_for_gets_to_see_a_token(
    certificate: Path, port: int, monkeypatch: pytest.MonkeyPatch, host: str, *, trusted: bool
) -> None:
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    client = AuthClient(f"https://{host}:{port}", timeout=2)
    try:
        if trusted and host == "localhost":
            assert await client.validate(ADA) == Caller(user_id=1, username="ada", roles=("user",))
        else:
            with pytest.raises(AuthUnavailable):
                await client.validate(ADA)
    finally:
        await client.close()
