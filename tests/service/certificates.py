"""A certificate authority for a test, and a server's certificate that it signed."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


class Certificates(NamedTuple):
    server: ssl.SSLContext
    client: ssl.SSLContext  # trusts the authority of the test alone


def make_certificates(folder: Path, names: Sequence[str]) -> Certificates:
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    may_sign = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    authority = signed(
        "authority", authority_key, authority_key, [x509.BasicConstraints(ca=True, path_length=None), may_sign]
    )
    alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
    certificate = signed("server", key, authority_key, [alternatives])
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem = folder / "server.pem"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + secret)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    text = authority.public_bytes(serialization.Encoding.PEM).decode()
    (folder / "authority.pem").write_text(text)
    return Certificates(server, ssl.create_default_context(cadata=text))


def signed(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    authority_key: ec.EllipticCurvePrivateKey,
    extensions: Sequence[x509.ExtensionType],
) -> x509.Certificate:
    """As strict as RFC 5280 asks for, which Python checks from 3.13 on."""
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "authority")]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=not isinstance(extension, x509.SubjectAlternativeName))
    return builder.sign(authority_key, hashes.SHA256())
