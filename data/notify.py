"""One HTTP POST at the end of a run or of a look at what is served, for a chat, a pager or another pipeline."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

from data.settings import fill_in

TOKEN = "NOTIFY_TOKEN"
"""The environment variable whose value is sent as a bearer token."""
RETRIES = 3
SECONDS = 5.0
"""The time that a server has to accept a connection, and then to answer."""

log = logging.getLogger(__name__)


def notify(url: str, content: Mapping[str, Any]) -> str | None:
    """Posts `content` as JSON. It tries again after a connection error, a 429 or a 5xx.

    Returns:
        Why it was not delivered, or None. It never raises: what ended counts, not its notification.
    """
    try:
        import requests
        from requests.adapters import HTTPAdapter
        from urllib3.util import Retry

        retry = Retry(
            total=RETRIES,
            backoff_factor=0.5,
            status_forcelist=(429, 500, 502, 503, 504),
            allowed_methods=None,
            respect_retry_after_header=False,
            raise_on_status=False,
        )
        headers = {"Authorization": f"Bearer {os.environ[TOKEN]}"} if TOKEN in os.environ else {}
        with requests.Session() as session:
            session.trust_env = "Authorization" not in headers  # ~/.netrc would replace the token
            for scheme in ("http://", "https://"):
                session.mount(scheme, HTTPAdapter(max_retries=retry))
            answer = session.post(
                fill_in(url, "notify.url"), json=content, headers=headers, timeout=SECONDS, allow_redirects=False
            )
    except Exception as error:
        log.debug("The notification failed.", exc_info=True)
        return type(error).__name__
    return None if answer.ok and not answer.is_redirect else f"the server answered {answer.status_code}"
