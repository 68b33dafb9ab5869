"""One bucket of an S3-compatible object store, by aiobotocore (the extra `s3`), which is imported on first use.

This module does not retry: only the caller knows which requests are idempotent. Credentials come from the same sources
as for the AWS tools (environment, profile, instance role). Errors contain neither credentials nor the server's text.
Error codes: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
"""

import asyncio
import email.utils
import os
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from infrakit.spi import errors, extras

DEADLINE_S = 10.0  # of one request
CONNECT_S = 3.0
PAGE_KEYS_MAX = 1000  # the most that S3 lists per request
_DEFAULT_REGION = "us-east-1"  # the region that servers without regions expect in a signature

_THROTTLES = ("SlowDown", "Throttling", "ThrottlingException", "TooManyRequests", "RequestLimitExceeded")
NEEDS_CONDITIONS = "use one that honours If-None-Match: * (Amazon S3, or a newer release of this one)"
_RENEW = "check the credentials of this process, and renew them"
_NAME_REGION = "specify the bucket's region: ?region=..."
_REMEDIES: Mapping[str | int, str] = {  # by code, or by status
    "NoSuchBucket": "create the bucket, or correct its name",
    "RequestTimeTooSkewed": "set the clock of this machine",
    "InvalidAccessKeyId": _RENEW,
    "SignatureDoesNotMatch": _RENEW,
    "ExpiredToken": _RENEW,
    "InvalidToken": _RENEW,
    "TokenRefreshRequired": _RENEW,
    "AuthorizationHeaderMalformed": _NAME_REGION,
    "IllegalLocationConstraintException": _NAME_REGION,
    301: _NAME_REGION,
    403: "allow s3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject on this bucket for these credentials",
    501: NEEDS_CONDITIONS,
    507: "free space in the object store",
}


class ListedObject(msgspec.Struct, frozen=True, kw_only=True):
    """One object in a listing."""

    key: str
    etag: str  # changes with the content
    modified: datetime  # by the server's clock


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """Objects in ascending order of their keys."""

    entries: tuple[ListedObject, ...]
    at: datetime  # time of the response, by the server's clock


class Bucket:
    """A client of one bucket.

    Each method raises `Refused` if a retry cannot succeed, `Throttled`, and `Unreachable` or, for a change that may
    have been made, `OutcomeUnknown`.
    """

    def __init__(self, name: str, *, endpoint: str = "", region: str = "", deadline_s: float = DEADLINE_S) -> None:
        """Use Amazon S3, unless an endpoint is given (`http://HOST:PORT`). Raises `Refused` without the extra."""
        extras.require("s3", where=f"s3://{name}")
        self.where = f"s3://{name}" + (f" at {endpoint}" if endpoint else "")
        self._name = name
        self._endpoint = endpoint
        self._region = region
        self._deadline_s = deadline_s
        self._client: Any = None
        self._opening = asyncio.Lock()

    async def create(self, key: str, body: bytes) -> datetime:
        """Create an object durably if its key is free; return the time of the response, by the server's clock.

        Raises `Conflict` if the key exists. It may be the object of this very call: the HTTP client or a proxy may
        resend a PUT when a connection breaks, and the response to the first one may have been lost.
        """
        response = await self._ask("put_object", changes=True, Key=key, Body=body, IfNoneMatch="*")
        return self._server_time(response)

    async def fetch(self, key: str, *, bytes_max: int | None = None) -> bytes:
        """Return the content of an object. Raises `NotFound`, and `Refused` if it is larger than `bytes_max`."""
        response = await self._ask("get_object", bytes_max=bytes_max, Key=key)
        body: bytes = response["Body"]
        return body

    async def list(self, prefix: str, *, after: str, limit: int) -> Listing:
        """Return the first `limit` objects whose keys begin with `prefix` and come after `after`."""
        entries: list[ListedObject] = []
        page: dict[str, Any] = {"StartAfter": after}
        while True:
            count = min(limit - len(entries), PAGE_KEYS_MAX)
            response = await self._ask("list_objects_v2", Prefix=prefix, MaxKeys=count, **page)
            entries += [
                ListedObject(key=each["Key"], etag=each["ETag"], modified=each["LastModified"])
                for each in response.get("Contents", ())
            ]
            # A server may return a short or empty page although more objects follow.
            if not response.get("IsTruncated") or len(entries) >= limit:
                return Listing(entries=tuple(entries), at=self._server_time(response))
            page = {"ContinuationToken": response["NextContinuationToken"]}

    async def remove(self, key: str) -> None:
        """Remove an object, if it exists."""
        await self._ask("delete_object", changes=True, Key=key)

    async def close(self) -> None:
        """Close all connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.__aexit__(None, None, None)

    # -- requests --------------------------------------------------------------------------------------------------

    async def _ask(
        self, operation: str, *, changes: bool = False, bytes_max: int | None = None, **arguments: object
    ) -> dict[str, Any]:
        sent = False
        try:
            async with asyncio.timeout(self._deadline_s):
                client = await self._open()
                sent = True
                response: dict[str, Any] = await getattr(client, operation)(Bucket=self._name, **arguments)
                if operation == "get_object":
                    async with response["Body"] as stream:
                        if bytes_max is not None and response["ContentLength"] > bytes_max:
                            raise errors.Refused(f"has more than {bytes_max:,} bytes", where=self.where)
                        response["Body"] = await stream.read()
                return response
        except TimeoutError:
            raise self._no_response(f"no answer within {self._deadline_s:g} s", unknown=changes and sent) from None
        except _failures() as error:
            raise self._request_error(error, changes=changes and sent) from None

    async def _open(self) -> Any:
        async with self._opening:
            if self._client is None:
                session, config = await asyncio.to_thread(_load, is_amazon=not self._endpoint)
                region = self._region or session.get_config_variable("region")
                self._client = await session.create_client(
                    "s3",
                    endpoint_url=self._endpoint or None,
                    region_name=region or _DEFAULT_REGION,
                    config=config,
                ).__aenter__()
            return self._client

    def _server_time(self, response: Mapping[str, Any]) -> datetime:
        try:
            return email.utils.parsedate_to_datetime(response["ResponseMetadata"]["HTTPHeaders"]["date"])
        except (KeyError, ValueError):
            raise errors.Refused("its responses have no date: it does not speak S3", where=self.where) from None

    # -- failures, by what the caller may conclude from them -------------------------------------------------------

    def _no_response(self, what: str, *, unknown: bool) -> errors.InfraKitError:
        return (errors.OutcomeUnknown if unknown else errors.Unreachable)(what, where=self.where)

    def _request_error(self, error: Exception, *, changes: bool) -> errors.InfraKitError:
        import aiohttp
        import botocore.exceptions as known

        if isinstance(error, known.ClientError):
            return self._response_error(error.response, changes=changes)
        if isinstance(error, known.NoCredentialsError | known.PartialCredentialsError | known.CredentialRetrievalError):
            remedy = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use a profile or a role of this machine"
            return errors.Refused("no credentials were found", where=self.where, remedy=remedy)
        if isinstance(error, known.ProfileNotFound | known.ParamValidationError | ValueError):
            remedy = "check the URL, and the variables AWS_*"
            return errors.Refused(f"invalid request: {type(error).__name__}", where=self.where, remedy=remedy)
        cause = error.kwargs.get("error", error) if isinstance(error, known.EndpointConnectionError) else error
        number = getattr(cause, "errno", None) or 0  # of the system; asyncio's text would repeat the address
        name = os.strerror(number) if number > 0 else getattr(cause, "strerror", None) or type(cause).__name__
        never_sent = (
            aiohttp.ClientConnectorError,
            known.ConnectTimeoutError,
            known.ProxyConnectionError,
            known.SSLError,
        )
        if isinstance(cause, never_sent):
            return errors.Unreachable(f"cannot connect: {name}", where=self.where)
        return self._no_response(f"the request was interrupted: {name}", unknown=changes)

    def _response_error(self, response: Mapping[str, Any], *, changes: bool) -> errors.InfraKitError:
        """Translate an error response by its code. Never quotes the server's text, which may repeat the request."""
        metadata, code = response.get("ResponseMetadata", {}), str(response.get("Error", {}).get("Code", ""))
        status = int(metadata.get("HTTPStatusCode", 0))
        text = f"{code or 'an error'} (status {status})"
        if code in _THROTTLES or status == 429:
            after = str(metadata.get("HTTPHeaders", {}).get("retry-after", ""))
            return errors.Throttled(text, after_s=float(after) if after.isdigit() else 1.0, where=self.where)
        if code == "NoSuchKey":
            return errors.NotFound("no such object", where=self.where)
        if status in (409, 412):
            return errors.Conflict(text, where=self.where)
        if (status >= 500 and status not in (501, 507)) or code == "RequestTimeout":
            return self._no_response(text, unknown=changes)
        remedy = _REMEDIES.get(code) or _REMEDIES.get(status) or "check that the endpoint speaks S3"
        return errors.Refused(text, where=self.where, remedy=remedy)


def _failures() -> tuple[type[Exception], ...]:
    """Return the exceptions of the library. Called only after an exception, when the library is imported already."""
    import aiohttp
    import botocore.exceptions as known

    return known.BotoCoreError, known.ClientError, aiohttp.ClientError, OSError, ValueError


def _load(*, is_amazon: bool) -> tuple[Any, Any]:
    """Import the library and its S3 model. This takes a quarter of a second, so it must not run in the event loop."""
    from aiobotocore.config import AioConfig
    from aiobotocore.session import get_session

    session = get_session()
    loader = session.get_component("data_loader")
    loader.load_service_model("s3", "service-2")
    loader.load_service_model("s3", "endpoint-rule-set-1")
    loader.load_data("endpoints")
    config = AioConfig(
        connect_timeout=CONNECT_S,
        read_timeout=2 * DEADLINE_S,  # `deadline_s` is the effective timeout
        retries={"total_max_attempts": 1},
        s3={"addressing_style": "auto" if is_amazon else "path"},
        # Older servers do not support checksums in trailers. The content has its own checksum.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    return session, config


def load(address: str, timeout_s: float, *, bytes_max: int = 1_000_000) -> bytes:
    """Fetch the object at `s3://BUCKET/KEY[?endpoint=http://HOST:PORT&region=REGION]`, outside an event loop.

    Raises `InvalidSpec`, `NotFound`, and the errors of `Bucket`.
    """
    parts = urlsplit(address)
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    key = unquote(parts.path.lstrip("/"))
    if not parts.netloc or not key:
        raise errors.invalid(f"s3://{parts.netloc}", "this is not an object", hint="write s3://BUCKET/KEY")

    async def fetch() -> bytes:
        bucket = Bucket(
            parts.netloc,
            endpoint=options.get("endpoint", "").rstrip("/"),
            region=options.get("region", ""),
            deadline_s=timeout_s,
        )
        try:
            return await bucket.fetch(key, bytes_max=bytes_max)
        finally:
            await bucket.close()

    return asyncio.run(fetch())
