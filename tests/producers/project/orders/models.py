import logging

from celery.utils.log import get_task_logger
from django.db import connection, models

logger = logging.getLogger("orders.packing")


class Order(models.Model):
    name = models.CharField(max_length=100)
    packed_by = models.IntegerField(null=True)

    class Meta:
        app_label = "orders"

    def parts(self):
        return range(3)

    def pack(self, part):
        logger.info("packed part %d", part)

    def finish(self):
        """Say something in every way, and return which database connection did it."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            self.packed_by = cursor.fetchone()[0]
        self.save()
        get_task_logger("orders.tasks").info("told by the task logger")
        logging.getLogger("elsewhere").info("told by another logger")
        print("packed for", self.name)
        return self.packed_by
