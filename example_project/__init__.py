"""stdlib-census: code search for the Python you are standing on, as a small Celery project.

`make demo` runs it; README.md beside this file tells what to look at.
"""

from example_project.celery import app, plet

__all__ = ["app", "plet"]
