"""Tokens of end users, signed here with a key made here, as an issuer in another language does."""

import base64
import hashlib
import hmac
import json
import time

import grpc
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from fieldseal.v1 import audit_service_pb2 as audit
from fieldseal.v1 import encryption_service_pb2 as encryption
from fieldseal.v1 import system_service_pb2 as system

ISSUER = "https://login.test"
TENANT = "python-tenant"
SECRET = b"a shared secret that this test made up"
ISSUERS = f"""\
[[issuer]]
iss = "{ISSUER}"
audience = ["fieldseal"]
algorithms = ["ES256"]
keys = "python.jwks.json"

[[issuer]]
iss = "{TENANT}"
connect_secret_file = "python.secret"
"""
Code = grpc.StatusCode


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(header, claims, sign):
    parts = [base64url(json.dumps(part).encode()) for part in (header, claims)]
    message = ".".join(parts)
    return f"{message}.{base64url(sign(message.encode()))}"


def elliptic(key):
    def sign(message):
        pair = utils.decode_dss_signature(key.sign(message, ec.ECDSA(hashes.SHA256())))
        return b"".join(number.to_bytes(32, "big") for number in pair)
    return sign


def with_secret(message):
    return hmac.new(SECRET, message, hashlib.sha256).digest()


def configure(directory, key):
    """Writes the issuers into a policy's directory; returns the files."""
    point = key.public_key().public_numbers()
    x, y = (base64url(number.to_bytes(32, "big")) for number in (point.x, point.y))
    jwk = {"kty": "EC", "crv": "P-256", "kid": "py", "use": "sig", "x": x, "y": y}
    secret = directory / "python.secret"
    secret.touch(mode=0o600)
    secret.write_bytes(SECRET + b"\n")
    keys, issuers = directory / "python.jwks.json", directory / "issuers.toml"
    keys.write_text(json.dumps({"keys": [jwk]}), encoding="utf-8")
    issuers.write_text(ISSUERS, encoding="utf-8")
    return [secret, keys, issuers]


def calls(at, field, value):
    """Decrypts with tokens that hold, and with tokens that do not."""
    key = ec.generate_private_key(ec.SECP256R1())
    files = configure(at.directory / "policy", key)
    reload = system.ReloadPolicyRequest()
    at.call("ops", system, "SystemService.ReloadPolicy", reload)
    seal = encryption.EncryptRequest(field=field, plaintext=value)
    sealed = at.call("app", encryption, "EncryptionService.Encrypt", seal).ciphertext

    def opening(token, query_hash=""):
        why = encryption.AccessReason(end_user_assertion=token, end_user_query_hash=query_hash)
        return encryption.DecryptRequest(field=field, ciphertext=sealed, reason=why)

    def refused(request, cause, who="app", code=Code.UNAUTHENTICATED,
                reason="END_USER_TOKEN_INVALID"):
        info = at.refused(who, encryption, "EncryptionService.Decrypt", request, code, reason)
        at.checks.that(f"refused for its {cause}", info.metadata.get("cause", "") == cause, info)

    now = int(time.time())
    claims = {"iss": ISSUER, "sub": "ada", "aud": ["fieldseal"], "iat": now, "exp": now + 300}
    header, sign = {"alg": "ES256", "kid": "py"}, elliptic(key)
    token = signed(header, claims, sign)
    opened = at.good("app", encryption, "EncryptionService.Decrypt", opening(token))
    at.checks.that("opened for an end user", opened.plaintext == value, opened)
    refused(opening(token), "", "ops", Code.PERMISSION_DENIED, "END_USER_TOKEN_BOUND")
    refused(opening(f"{token[:-4]}AAAA"), "signature")
    refused(opening(signed({"alg": "none"}, claims, lambda _: b"")), "algorithm")
    refused(opening(signed(header, claims | {"aud": "shop"}, sign)), "audience")
    refused(opening(signed(header, claims | {"exp": now + 3600}, sign)), "lifetime")
    over = claims | {"iat": now - 600, "exp": now - 300}
    refused(opening(signed(header, over, sign)), "", reason="END_USER_TOKEN_EXPIRED")
    query_hash = hashlib.sha256(b"GET&/rest/field&").hexdigest()
    claims = {"iss": TENANT, "sub": "ada", "iat": now, "exp": now + 180, "qsh": query_hash}
    token = signed({"alg": "HS256", "typ": "JWT"}, claims, with_secret)
    at.good("app", encryption, "EncryptionService.Decrypt", opening(token, query_hash))
    refused(opening(token), "query_hash")
    asked = audit.AuditEventQuery(end_user_issuer=ISSUER, end_user_subject="ada")
    found = at.call("auditor", audit, "AuditService.QueryAuditEvents",
                    audit.QueryAuditEventsRequest(query=asked)).audit_events
    outcomes = [event.outcome for event in found]
    at.checks.that("both calls with it are found",
                   outcomes == [audit.AUDIT_OUTCOME_DENIED, audit.AUDIT_OUTCOME_OK], outcomes)
    for file in files:
        file.unlink()
    at.call("ops", system, "SystemService.ReloadPolicy", reload)
