from django.urls import path

from orders import views

urlpatterns = [
    path("orders/<str:name>/", views.order),
    path("refused/<str:name>/", views.refused),
    path("progress/<str:run_id>/", views.progress),
    path("version/", views.version),
]
