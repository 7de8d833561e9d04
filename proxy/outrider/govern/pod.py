"""The identity of the pod that this sidecar is part of, as the downward API gives it.

Rules: a file under the configured folder counts before the environment; what neither says is "". The cluster writes
these, not the app: an app in the pod cannot change them, and every container of the pod shares them.
Source: Kubernetes, "Downward API": `fieldPath: metadata.labels` is written as `key="escaped value"`, a line each.
Does not know: principals.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from outrider.errors import StartError
from outrider.secrets.files import read_capped, reason

_MAX_BYTES = 1 << 20
_LABEL = re.compile(r'([A-Za-z0-9./_-]{1,317})="((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class PodIdentity:
    """`namespace` and `service_account` are "" where nobody said."""

    namespace: str = ""
    service_account: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path | None, environ: Mapping[str, str]) -> "PodIdentity":
        """Files `namespace`, `service_account` and `labels`; else $POD_NAMESPACE, $POD_SERVICE_ACCOUNT, $POD_LABELS.

        Raises: StartError when the folder is not there or a file cannot be read.
        """
        if folder is not None and not folder.is_dir():
            raise StartError(f"pod_info: {folder} is not a folder; mount the downward API there or remove the key")
        return cls(
            _text(folder, "namespace", environ.get("POD_NAMESPACE", "")),
            _text(folder, "service_account", environ.get("POD_SERVICE_ACCOUNT", "")),
            parse_labels(_text(folder, "labels", environ.get("POD_LABELS", ""))),
        )


def _text(folder: Path | None, name: str, otherwise: str) -> str:
    path = folder / name if folder is not None else None
    if path is None or not path.exists():
        return otherwise.strip()
    try:
        return read_capped(path, _MAX_BYTES).decode("utf-8", "replace").strip()
    except OSError as exc:
        raise StartError(f"pod_info: {path} cannot be read: {reason(exc)}") from exc


def parse_labels(text: str) -> dict[str, str]:
    """The labels of a downward API file. A line that is none is left out: it can match nothing."""
    found = (_LABEL.fullmatch(line.strip()) for line in text.splitlines())
    return {match[1]: _ESCAPE.sub(r"\1", match[2]) for match in found if match is not None}
