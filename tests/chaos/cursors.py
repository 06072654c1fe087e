"""Opens cursors as their holder cannot: the checker knows the site's secret."""

from __future__ import annotations

from functools import cache

from cryptography.exceptions import InvalidTag

from wagtail_live import cursor as sealed

SECRET = "only-for-the-demo-never-for-a-real-site"  # noqa: S105 - the example project's


@cache
def opened(cursor: str) -> tuple[int, str] | None:
    """Return the position and the uuid (hex) in a cursor; None when it is not one of ours."""
    try:
        body = (
            _sealer()
            ._ciphers[0]
            .decrypt(
                sealed._decode(cursor)[: sealed._NONCE_BYTES],
                sealed._decode(cursor)[sealed._NONCE_BYTES :],
                None,
            )
        )
    except (InvalidTag, sealed.BadCursor):
        return None
    _, number, uuid, _ = sealed._BODY.unpack(body)
    return number, uuid.hex()


@cache
def _sealer() -> sealed.Sealer:
    return sealed.Sealer([SECRET])
