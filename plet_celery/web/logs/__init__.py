"""The log viewer: what an address asks for, which window that is, and its rows as HTML."""

from __future__ import annotations
