"""The hash by which two requests are the same request: for the audit log, and for whoever remembers answers.

Rules: over the body as it leaves, so after redaction and every rewrite, unpacked where it is encoded; mixed in are
provider, operation, model, tenant, method and target, so that equal bodies to two places or of two tenants differ; the
hash is keyed by nothing, so that it can be worked out again from a request in hand. A key that stands twice in one
object is refused: two readers could see two requests, and a hash would be of only one.
Does not know: who reads it.
"""

from outrider.errors import BadRequestError, SidecarError
from outrider.stack.call import Call, LayerHook, Route
from outrider.stack.document import plain_body
from outrider_ext.digest import Canon, DigestRequest
from outrider_ext.relay import Exchange


class Digest:
    """The filter: the last body layer. cap_bytes: of a body, also unpacked."""

    def __init__(self, cap_bytes: int) -> None:
        self._canon = Canon(max_bytes=cap_bytes)
        self._cap_bytes = cap_bytes

    def body(self, route: Route) -> LayerHook | None:
        """Only where the body is JSON that is held anyway: uploads and the like are not held for their hash."""
        operation = route.operation
        if not (operation.dialect or operation.usage or operation.model_in == "body"):
            return None
        prefix = (route.provider.encode(), operation.name.encode())

        def parts_of(x: Exchange, call: Call) -> tuple[bytes, ...]:
            model = (call.model or "").encode("utf-8", "surrogatepass")
            return (*prefix, model, tenant_of(call).encode(), x.method, x.target[route.prefix_bytes :])

        return DigestRequest(self._canon, parts_of, self._plain, _refuse)

    def _plain(self, x: Exchange) -> bytes | None:
        try:
            return plain_body(x, self._cap_bytes)
        except SidecarError:  # it does not unpack: hashed as it is
            return None


def tenant_of(call: Call) -> str:
    """The team, project and environment; where a principal has none of them, the principal."""
    who = call.principal
    if who is None:
        return ""
    named = (who.team, who.project, who.environment)
    return "\0".join(named) if any(named) else f"\1{who.id}"


def _refuse(error: Exception) -> None:
    raise BadRequestError(str(error)) from error
