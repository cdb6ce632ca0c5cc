from django.db import transaction
from django.http import JsonResponse

from orders.models import Order
from orders.tasks import bill, pack
from plet_celery import TrackedResult
from shop.celery import app

VERSION = "one"


def order(request, name):
    with transaction.atomic():
        order = Order.objects.create(name=name)
        pack.delay_on_commit(order.pk, customer="canary-customer")
        bill.apply_async_on_commit((order.pk,), headers={"plet_trigger": "api", "plet_user": "bob"})
    return JsonResponse({"order": order.pk})


def progress(request, run_id):
    result = TrackedResult(run_id, app=app)
    return JsonResponse({"state": result.state, "percent": result.progress.percent})


def refused(request, name):
    try:
        with transaction.atomic():
            order = Order.objects.create(name=name)
            pack.delay_on_commit(order.pk, customer=name)
            raise ValueError("changed our minds")
    except ValueError:
        return JsonResponse({"order": None})


def version(request):
    return JsonResponse({"version": VERSION})
