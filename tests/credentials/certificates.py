"""Makes two authorities, and a certificate for 127.0.0.1 signed by the first.

Arguments: the files of authority, other authority, certificate and its key.
"""

import datetime
import ipaddress
import sys

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def certificate(subject, key, issuer, issuer_key, extensions):
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def write(path, data):
    with open(path, "wb") as file:
        file.write(data)


def authority(path, subject):
    key = ec.generate_private_key(ec.SECP256R1())
    made = certificate(subject, key, subject, key, [x509.BasicConstraints(ca=True, path_length=None)])
    write(path, made.public_bytes(serialization.Encoding.PEM))
    return key


authority_path, other_path, certificate_path, key_path = sys.argv[1:]
authority_key = authority(authority_path, "authority")
authority(other_path, "other authority")
server_key = ec.generate_private_key(ec.SECP256R1())
address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
made = certificate("server", server_key, "authority", authority_key, [address])
write(certificate_path, made.public_bytes(serialization.Encoding.PEM))
write(
    key_path,
    server_key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ),
)
