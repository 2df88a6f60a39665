"""The ways out to a person who does not look at a screen: e-mail and webhook, each where it is set.

What belongs here: one message sent over each way. What does not: what is said and when (`failures`).
"""

from __future__ import annotations

import smtplib
from email.message import EmailMessage

import httpx

from faults import RetryFault
from storage.settings import NotificationSettings

TIMEOUT_S = 20.0


def send(settings: NotificationSettings, subject: str, body: str) -> list[str]:
    """Send over all ways that are set; returns their names.

    Raises:
        RetryFault: a way that is set did not take it; what went out before it is not taken back.
    """
    ways = []
    if settings.smtp_host and settings.mail_to:
        _mail(settings, subject, body)
        ways.append("e-mail")
    if settings.webhook_url:
        _webhook(settings.webhook_url, subject, body)
        ways.append("webhook")
    return ways


def _mail(settings: NotificationSettings, subject: str, body: str) -> None:
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = subject, settings.mail_from, settings.mail_to
    message.set_content(body)
    where = f"{settings.smtp_host}:{settings.smtp_port}"
    try:
        with smtplib.SMTP(settings.smtp_host or "", settings.smtp_port, timeout=TIMEOUT_S) as server:
            server.send_message(message)
    except (OSError, smtplib.SMTPException) as error:
        raise RetryFault(
            f"the mail server did not take a message: {error}",
            where=where,
            remedy="correct [notifications] smtp_host, smtp_port and mail_to; it is tried again",
        ) from error


def _webhook(url: str, subject: str, body: str) -> None:
    try:
        reply = httpx.post(url, json={"subject": subject, "text": body}, timeout=TIMEOUT_S, trust_env=False)
        reply.raise_for_status()
    except httpx.HTTPError as error:
        raise RetryFault(
            # The address may hold a token, so it is not told.
            f"the webhook did not take a message: {type(error).__name__}",
            where="SMF_NOTIFICATIONS_WEBHOOK_URL",
            remedy="correct the address; it is tried again",
        ) from error
