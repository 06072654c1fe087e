"""
Seal and open "I have everything up to here".

A cursor is AES-GCM over (version, position, entry uuid, fingerprint of the live query): its holder
learns nothing from it, cannot forge it, and cannot use it for another query or audience. Keys come
in from outside; this module knows no settings.
"""

from __future__ import annotations

import base64
import hashlib
import os
import struct
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from wagtail_live.events import Audience, Position, Query
from wagtail_live.exceptions import BadCursor

_VERSION = 1
_BODY = struct.Struct(">BQ16s16s")
_NONCE_BYTES = 12


def fingerprint(query: Query, audience: Audience) -> bytes:
    """Return 16 bytes that are equal, in every process, for equal live queries only."""
    return hashlib.sha256(repr((query, audience)).encode()).digest()[:16]


class Sealer:
    """Seals with the first of ``secrets``, opens with any: key rotation keeps cursors good."""

    def __init__(self, secrets: Sequence[str | bytes]) -> None:
        self._ciphers = [AESGCM(_derive(secret)) for secret in secrets]

    def seal(self, position: Position, live_query: bytes) -> str:
        """Return the cursor: URL-safe text without padding, about 90 characters."""
        body = _BODY.pack(_VERSION, position.number, bytes.fromhex(position.uuid), live_query)
        nonce = os.urandom(_NONCE_BYTES)
        return _encode(nonce + self._ciphers[0].encrypt(nonce, body, None))

    def open(self, cursor: str, live_query: bytes) -> Position:
        """Return the position in ``cursor``, or raise ``BadCursor`` with its reason."""
        sealed = _decode(cursor)
        for cipher in self._ciphers:
            try:
                body = cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], None)
            except InvalidTag:
                continue
            version, number, uuid, sealed_for = _BODY.unpack(body)
            if version != _VERSION:
                raise BadCursor("unknown")
            if sealed_for != live_query:
                raise BadCursor("other_query")
            return Position(number, uuid.hex())
        raise BadCursor("unknown")


def _derive(secret: str | bytes) -> bytes:
    material = secret.encode() if isinstance(secret, str) else secret
    return HKDF(SHA256(), 32, salt=None, info=b"wagtail_live.cursor.v1").derive(material)


def _encode(sealed: bytes) -> str:
    return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()


def _decode(cursor: str) -> bytes:
    try:
        sealed = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise BadCursor("unknown") from None
    # Base64 can be spelled in several ways; a cursor in one.
    if len(sealed) != _NONCE_BYTES + _BODY.size + 16 or _encode(sealed) != cursor:
        raise BadCursor("unknown")
    return sealed
