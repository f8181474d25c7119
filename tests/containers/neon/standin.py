"""A CA of nobody's, and a terminal that somebody sits at."""

import os
import pty
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

DOMAIN = "eu-central-1.aws.neon.test"
HOST, POOLED_HOST = (f"ep-quiet-lab-123456{way}.{DOMAIN}" for way in ("", "-pooler"))

# What Python asks of a CA.
_AUTHORITY = (
    x509.BasicConstraints(ca=True, path_length=None),
    x509.KeyUsage(
        key_cert_sign=True, crl_sign=True, digital_signature=False, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    ),
)  # fmt: skip


def make_certificates(folder: Path) -> None:
    """`ca.crt`, and `server.crt` with `server.key` for every name below DOMAIN, as Neon has it."""
    folder.mkdir()
    ca_key, server_key = (
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP256R1()),
    )
    ca_name = x509.Name.from_rfc4514_string("CN=The stand-in's CA")
    ca = _certificate(ca_name, ca_name, ca_key, ca_key, *_AUTHORITY)
    names = x509.SubjectAlternativeName([x509.DNSName(f"*.{DOMAIN}")])
    server_name = x509.Name.from_rfc4514_string(f"CN=*.{DOMAIN}")
    server = _certificate(server_name, ca_name, server_key, ca_key, names)
    (folder / "ca.crt").write_bytes(ca.public_bytes(Encoding.PEM))
    (folder / "server.crt").write_bytes(server.public_bytes(Encoding.PEM))
    # PgBouncer is another user there than whoever runs the tests; PostgreSQL makes a copy of its own.
    (folder / "server.key").write_bytes(
        server_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    signed_by: ec.EllipticCurvePrivateKey,
    *extensions: x509.ExtensionType,
) -> x509.Certificate:
    now, public, issuers = datetime.now(UTC), key.public_key(), signed_by.public_key()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuers), critical=False)
    )
    for extension in extensions:
        certificate = certificate.add_extension(extension, critical=extension in _AUTHORITY)
    return certificate.sign(signed_by, SHA256())


def at_a_terminal(
    command: str, folder: Path, environment: Mapping[str, str], answer: str = ""
) -> tuple[int, str]:
    """Runs a line of a page; types `answer` where it asks. Its status, and what the screen shows."""
    screen, keyboard = pty.openpty()
    with subprocess.Popen(
        ["bash", "-c", command], cwd=folder, env=environment, stdin=keyboard, stdout=keyboard,
        stderr=keyboard, start_new_session=True,
    ) as process:  # fmt: skip
        os.close(keyboard)
        shown, is_answered = b"", not answer
        while some := _read(screen):
            shown += some
            if not is_answered and b"not shown" in shown:
                os.write(screen, f"{answer}\n".encode())
                is_answered = True
    os.close(screen)
    return process.returncode, shown.decode().replace("\r", "")


def _read(screen: int) -> bytes:
    try:
        return os.read(screen, 4096)
    except OSError:
        # Linux says so where nobody writes there any more.
        return b""
