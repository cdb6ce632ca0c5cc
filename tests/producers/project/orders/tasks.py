from celery import shared_task

from orders.models import Order
from plet_celery import TrackedTask


@shared_task(base=TrackedTask, bind=True, stages={"find": 1, "pack": 4})
def pack(self, order_id, customer):
    with self.stage("find"):
        order = Order.objects.get(pk=order_id)
    for part in self.track(order.parts(), "pack", unit="parts"):
        order.pack(part)
    self.metadata["order"] = order.name
    return order.finish()


@shared_task
def bill(order_id):
    return Order.objects.filter(pk=order_id).count()
