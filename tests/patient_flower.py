"""`celery flower` whose pages wait for their answers as long as a busy machine takes; run it as a program."""

from celery.__main__ import main

from plet_celery.web import desk
from plet_celery.web.logs.view import view
from plet_celery.web.pool import Pool

desk.QUERY_SECONDS = 50.0  # type: ignore[misc]
for function in (Pool.run, view):
    assert function.__kwdefaults__ is not None
    function.__kwdefaults__["seconds"] = 60.0
main()
