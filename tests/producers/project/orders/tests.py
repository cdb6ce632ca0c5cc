from django.test import TestCase

from orders.models import Order


class OrderTest(TestCase):
    def test_an_order_is_packed_after_the_commit(self):
        with self.captureOnCommitCallbacks(execute=True) as callbacks:
            self.client.get("/orders/shoes/")

        self.assertEqual(len(callbacks), 2)
        self.assertIsNotNone(Order.objects.get(name="shoes").packed_by)
