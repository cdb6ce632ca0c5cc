"""What every answer of ours tells a browser: no script but ours, no frame, nothing kept, nothing told on."""

from __future__ import annotations

from typing import Final

CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
SAFE_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": CSP,
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
HEADERS: Final = SAFE_HEADERS | {
    # Our own ETag is asked for each time; what a browser kept must not be shown to another user.
    "Cache-Control": "no-store",
    "Vary": "Cookie, Authorization",
}
