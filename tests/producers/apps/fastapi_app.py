from calling import app as celery_app
from calling import load
from fastapi import FastAPI

from plet_celery import TrackedResult

api = FastAPI()


@api.post("/imports")
def start(rows: int = 100) -> dict[str, str]:
    headers = {"plet_trigger": "api", "plet_user": "bob", "plet_tenant": "acme/north"}
    return {"run": load.apply_async((rows,), headers=headers).id}


@api.get("/imports/{run_id}")
def progress(run_id: str) -> dict[str, object]:
    # `def`, not `async def`: it asks the result backend and the store, so it belongs into a thread.
    result = TrackedResult(run_id, app=celery_app)
    progress = result.progress
    return {"state": result.state, "percent": progress.percent, "stage": progress.stage}
