"""Pages inside stock Flower: what runs, how far it is, what failed and why.

`Plet(app)` installs them where `celery flower` runs, and nowhere else: see `activation.py`. Each page is
HTML that a server renders; JavaScript adds liveness, copying and keys.
"""

from __future__ import annotations
