"""Header fields for pages that browsers show: how little such a page needs, so that it can be made to do no more."""

import re
from base64 import b64encode
from hashlib import sha256
from typing import Final

INLINE: Final = re.compile(rb"<script>(.*?)</script>", re.DOTALL)


def page_headers(page: bytes) -> dict[str, str]:
    """Header fields of an HTML page of ours.

    Its scripts are files of this service and those that stand in the page as it is now; styles may stand in elements,
    for Swagger UI writes some; it talks to this service alone, and stands in no frame.

    Parameters
    ----------
    page : bytes

    References
    ----------
    W3C, *Content Security Policy Level 3*; OWASP, *HTTP Headers Cheat Sheet*.
    """
    known = " ".join(f"'sha256-{b64encode(sha256(script).digest()).decode()}'" for script in INLINE.findall(page))
    policy = {"script-src": f"'self' {known}".strip(), **_POLICY}
    return {"Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()), **_FIELDS}


_POLICY: Final = {
    "default-src": "'none'",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data:",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
_FIELDS: Final = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}
