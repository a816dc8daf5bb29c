#!/usr/bin/env python3
"""Connects as it must not: each connection is refused, the sidecar says why, and serves others.

    client_tls.py make DIRECTORY          replaces an installation's development certificates
    client_tls.py check DIRECTORY LOG     its sidecar runs and writes its log lines into LOG
"""

import datetime
import json
import re
import socket
import ssl
import sys
import time

import client
import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DECRYPT = "/fieldseal.v1.EncryptionService/Decrypt"
NOW = datetime.datetime.now(datetime.timezone.utc)
DAY = datetime.timedelta(days=1)
# A line that does not come within so many seconds does not come.
PATIENCE = 30


class Authority:
    def __init__(self, name):
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._signed(self.name, self.key, [], NOW - DAY, NOW + DAY, ca=True)

    def _signed(self, subject, key, names, begin, end, ca=False):
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject).issuer_name(self.name).public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin).not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def issue(self, tls, who, names, begin=NOW - DAY, end=NOW + DAY):
        """Writes a certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, who)])
        write(tls, f"{who}.pem", self._signed(subject, key, names, begin, end))
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                serialization.NoEncryption())
        with open(f"{tls}/{who}.key", "wb") as file:
            file.write(pem)


def write(tls, name, certificate):
    with open(f"{tls}/{name}", "wb") as file:
        file.write(certificate.public_bytes(serialization.Encoding.PEM))


def make(directory):
    tls = f"{directory}/tls"
    # The caller that policy knows keeps its name.
    known = x509.load_pem_x509_certificate(client.read(f"{tls}/app.pem"))
    names = known.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    spiffe = list(names)
    ours, other = Authority("ours"), Authority("another")
    write(tls, "ca.pem", ours.certificate)
    write(tls, "another-ca.pem", other.certificate)
    ours.issue(tls, "server", [x509.DNSName("localhost")])
    ours.issue(tls, "app", spiffe)
    other.issue(tls, "stranger", spiffe)
    ours.issue(tls, "expired", spiffe, NOW - 3 * DAY, NOW - 2 * DAY)
    ours.issue(tls, "early", spiffe, NOW + 2 * DAY, NOW + 3 * DAY)
    ours.issue(tls, "two", spiffe + [x509.UniformResourceIdentifier("spiffe://example.org/b")])
    ours.issue(tls, "host", [x509.DNSName("app.example.org")])


class Sidecar:
    def __init__(self, directory, log, checks):
        self.directory, self.log, self.checks = directory, log, checks
        port = client.read(f"{directory}/address").decode().strip().rsplit(":", 1)[1]
        self.port, self.target = int(port), f"localhost:{port}"
        self.long = self.channel("app")

    def channel(self, who, ca="ca", options=()):
        credentials = client.credentials(self.directory, who, ca)
        return grpc.secure_channel(self.target, credentials, options=options)

    def answers(self, channel):
        """An empty request is refused by the sidecar itself, with a reason: so it was reached."""
        try:
            channel.unary_unary(DECRYPT)(b"", timeout=PATIENCE)
        except grpc.RpcError as error:
            status = client.of_call(error)
            return status is not None and client.error_info(status).reason == "TABLE_INVALID"
        return False

    def lines(self):
        """The lines about refused connections so far, by peer."""
        found = {}
        for line in client.read(self.log).decode().splitlines():
            if '"connection_refused"' in line:
                line = json.loads(line)
                found.setdefault(line["peer"], []).append(line["reason"])
        return found

    def refuses(self, what, connect, says):
        """The connection leads nowhere; one line a connection says why; others are served."""
        before = self.lines()
        self.checks.that(f"{what} is refused", not connect())
        given_up = time.monotonic() + PATIENCE
        while not (new := {p: r for p, r in self.lines().items() if p not in before}):
            if time.monotonic() > given_up:
                raise SystemExit(f"error: {what}: the sidecar says nothing")
            time.sleep(0.05)
        print(f"{what}: {sorted(new.values())[0][0]}")
        for peer, reasons in new.items():
            self.checks.that(f"{what}: one line", len(reasons) == 1, (peer, reasons))
            self.checks.that(f"{what}: why", re.search(says, reasons[0]), reasons)
        self.checks.that(f"{what}: others are served", self.answers(self.long))
        with self.channel("app") as fresh:
            self.checks.that(f"{what}: and new ones", self.answers(fresh))

    def answers_as(self, who, ca="ca", options=()):
        with self.channel(who, ca, options) as channel:
            return self.answers(channel)

    def answers_in_plain_text(self):
        with grpc.insecure_channel(self.target) as channel:
            return self.answers(channel)

    def speaks_tls_1_2(self):
        context = ssl.create_default_context(cafile=f"{self.directory}/tls/ca.pem")
        tls = f"{self.directory}/tls"
        context.load_cert_chain(f"{tls}/app.pem", f"{tls}/app.key")
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["h2"])
        try:
            with socket.create_connection(("localhost", self.port), PATIENCE) as plain:
                with context.wrap_socket(plain, server_hostname="localhost"):
                    return True
        except ssl.SSLError:
            return False


def check(directory, log):
    checks = client.Checks()
    at = Sidecar(directory, log, checks)
    checks.that("a good client is served", at.answers(at.long))
    wrong_name = [("grpc.ssl_target_name_override", "sidecar.example.org")]
    cases = [
        ("a certificate of another authority", lambda: at.answers_as("stranger"), "no authority"),
        ("an expired certificate", lambda: at.answers_as("expired"), "expired"),
        ("one that is not valid yet", lambda: at.answers_as("early"), "not valid yet"),
        ("no certificate", lambda: at.answers_as(None), "no certificate"),
        ("two names", lambda: at.answers_as("two"), "2 names of kind spiffe"),
        ("the wrong kind of name", lambda: at.answers_as("host"), "0 names of kind spiffe"),
        ("TLS 1.2", at.speaks_tls_1_2, "tls 1.3"),
        ("plain text", at.answers_in_plain_text, "does not speak tls"),
        ("another server's name", lambda: at.answers_as("app", options=wrong_name), "went away"),
        ("another server's CA", lambda: at.answers_as("app", "another-ca"), "went away"),
    ]
    for what, connect, says in cases:
        at.refuses(what, connect, says)
    # At least one connection each: refused, one line, why, others, new ones.
    checks.end(1 + 5 * len(cases))


if __name__ == "__main__":
    {"make": make, "check": check}[sys.argv[1]](*sys.argv[2:])
