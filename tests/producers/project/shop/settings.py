import os
import sys
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY = "of-a-test"
DEBUG = True
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "shop.urls"
WSGI_APPLICATION = "shop.wsgi.application"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"

INSTALLED_APPS = [
    "orders",
    "plet_celery.django",
]

CELERY_BROKER_URL = os.environ["SHOP_BROKER"]
CELERY_RESULT_BACKEND = os.environ["SHOP_BACKEND"]
CELERY_PLET_REDACT_NAMES = ["customer"]
CELERY_PLET_SHIPPER_LINGER = 1
CELERY_DB_REUSE_MAX = 1000

if "test" in sys.argv:
    CELERY_TASK_ALWAYS_EAGER = True
    CELERY_TASK_EAGER_PROPAGATES = True
    CELERY_PLET_ENABLED = False

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": os.environ["SHOP_DATABASE"],
        "HOST": os.environ["SHOP_DATABASE_HOST"],
        "PORT": os.environ.get("SHOP_DATABASE_PORT", ""),
        "USER": os.environ["SHOP_DATABASE_USER"],
        "PASSWORD": os.environ.get("SHOP_DATABASE_PASSWORD", ""),
        "CONN_MAX_AGE": None,
    }
}

# Celery leaves the root logger to this, and loggers that exist by then are kept.
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
LOGGING = {
    "version": 1,
    "disable_existing_loggers": os.environ.get("SHOP_DISABLES_LOGGERS") == "1",
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "INFO"},
    "loggers": {"orders": {"handlers": ["console"], "level": "INFO", "propagate": False}},
}

# What a test wants to be otherwise.
globals().update({name: value for name, value in os.environ.items() if name.startswith("CELERY_")})
