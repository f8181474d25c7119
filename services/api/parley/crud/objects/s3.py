"""S3, or whatever speaks as it does."""

from datetime import timedelta
from typing import TYPE_CHECKING

from obstore.store import S3Store

from parley.crud.objects.blobs import ObjectBlobs

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config

# The least that S3 takes for a part but the last.
PART_BYTES = 5 * 1024**2
CONNECT_SECONDS = 5
# Of a request as a whole: of what is read or written it has one piece.
REQUEST_SECONDS = 30
RETRIES = 2
RETRY_SECONDS = 10


def s3_blobs(
    where: str,
    *,
    endpoint: str | None,
    region: str,
    is_path_style: bool,
    access_key_id: str | None,
    secret_access_key: str | None,
) -> ObjectBlobs:
    """
    `where` is a bucket, or a bucket and a prefix: `bucket/prefix`.

    Without a key whom AWS's own means name: the environment, a web identity, the machine's role.
    """
    bucket, _, prefix = where.partition("/")
    config: S3Config = {"region": region, "virtual_hosted_style_request": not is_path_style}
    if endpoint is not None:
        # The library takes one that is not asked by path for the bucket's own.
        config["endpoint"] = endpoint if is_path_style else _of_bucket(endpoint, bucket)
    if access_key_id is not None and secret_access_key is not None:
        config["access_key_id"] = access_key_id
        config["secret_access_key"] = secret_access_key

    def open_store() -> S3Store:
        return S3Store(
            bucket,
            prefix=prefix or None,
            config=config,
            client_options=_client(allow_http=(endpoint or "").startswith("http://")),
            retry_config=_retries(),
        )

    return ObjectBlobs(open_store, part_bytes=PART_BYTES)


def _of_bucket(endpoint: str, bucket: str) -> str:
    scheme, _, host = endpoint.partition("://")
    return f"{scheme}://{bucket}.{host}"


def _client(*, allow_http: bool) -> "ClientConfig":
    return {
        "allow_http": allow_http,
        "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
        "timeout": timedelta(seconds=REQUEST_SECONDS),
    }


def _retries() -> "RetryConfig":
    # The library's own would go on for three minutes.
    return {"max_retries": RETRIES, "retry_timeout": timedelta(seconds=RETRY_SECONDS)}
