"""What Django projects need: `TrackedDjangoTask`, and an app for INSTALLED_APPS that checks the settings.

Nothing else in plet_celery knows Django; it is imported when it is asked for here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plet_celery.django.task import TrackedDjangoTask as TrackedDjangoTask

__all__ = ["TrackedDjangoTask"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from plet_celery.django.task import TrackedDjangoTask

    return TrackedDjangoTask
