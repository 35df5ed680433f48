"""Webhooks: list, show, make, alter, remove, try out; and what was sent."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from ninja import Router

from vmcloud.fleet.services import webhooks

from .answers import PAGING, no_filters, page, read_object, send
from .auth import actor
from .schemas.common import PAGES, ProblemOut, body
from .schemas.webhooks import DeliveryOut, DeliveryPage, WebhookIn, WebhookMade, WebhookOut, WebhookPage

router = Router()


@router.get("", response=WebhookPage, summary="List webhooks", openapi_extra={"parameters": PAGES})
def list_webhooks(request: HttpRequest) -> HttpResponse:
    """Your own; an administrator's list has everybody's."""
    no_filters(request, beside=PAGING)
    return page(webhooks.of(actor(request)), ("id",), request, webhooks.webhooks_json)


@router.post(
    "",
    response={201: WebhookMade, 400: ProblemOut, 409: ProblemOut},
    summary="Make a webhook",
    openapi_extra=body(WebhookIn),
)
def create_webhook(request: HttpRequest) -> HttpResponse:
    """Be told of what happens from now on, by signed requests (Standard Webhooks). The answer has the secret; nothing else ever
    tells it."""
    no_filters(request)
    made = webhooks.create(actor(request), read_object(request))
    shown = {**webhooks.webhooks_json([made])[0], "secret": made.secret}
    return send(shown, 201, Location=f"/api/v1/webhooks/{made.pk}")


@router.get("/{number}", response={200: WebhookOut, 404: ProblemOut}, summary="Show a webhook")
def show_webhook(request: HttpRequest, number: int) -> HttpResponse:
    """One webhook, and how its last messages went."""
    no_filters(request)
    return send(webhooks.webhooks_json([webhooks.get(actor(request), number)])[0])


@router.patch(
    "/{number}",
    response={200: WebhookOut, 400: ProblemOut, 404: ProblemOut},
    summary="Alter a webhook",
    openapi_extra=body(WebhookIn),
)
def alter_webhook(request: HttpRequest, number: int) -> HttpResponse:
    """What is not given stays. `enabled` lifts what a long failure has done."""
    no_filters(request)
    return send(webhooks.webhooks_json([webhooks.alter(actor(request), number, read_object(request))])[0])


@router.delete("/{number}", response={204: None, 404: ProblemOut}, summary="Remove a webhook")
def remove_webhook(request: HttpRequest, number: int) -> HttpResponse:
    """With all that waits to be sent."""
    no_filters(request)
    webhooks.remove(actor(request), number)
    return HttpResponse(status=204)


@router.post("/{number}/test", response={202: DeliveryOut, 404: ProblemOut, 409: ProblemOut}, summary="Try a webhook out")
def test_webhook(request: HttpRequest, number: int) -> HttpResponse:
    """Send a message of the type `webhook.test`; follow it among the deliveries."""
    no_filters(request)
    made = webhooks.test(actor(request), number)
    return send(webhooks.deliveries_json([made])[0], 202, Location=f"/api/v1/webhooks/{number}/deliveries/{made.pk}")


@router.get(
    "/{number}/deliveries",
    response={200: DeliveryPage, 404: ProblemOut},
    summary="What was sent",
    openapi_extra={"parameters": PAGES},
)
def list_deliveries(request: HttpRequest, number: int) -> HttpResponse:
    """Messages that wait, were taken or were given up, newest first. What has ended is kept for a week, a thousand at most."""
    no_filters(request, beside=PAGING)
    rows = webhooks.get(actor(request), number).deliveries.order_by("-id")
    return page(rows, ("-id",), request, webhooks.deliveries_json)


@router.get("/{number}/deliveries/{delivery}", response={200: DeliveryOut, 404: ProblemOut}, summary="One message")
def show_delivery(request: HttpRequest, number: int, delivery: int) -> HttpResponse:
    """How it went."""
    no_filters(request)
    return send(webhooks.deliveries_json([webhooks.delivery(actor(request), number, delivery)])[0])
