"""What the downward API says of the pod."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.errors import StartError
from outrider.govern.pod import PodIdentity, parse_labels

NAMES = st.text("abcXYZ019._/-", min_size=1, max_size=20)


def test_files_count_before_the_environment(tmp_path: Path) -> None:
    (tmp_path / "namespace").write_text("shop\n")
    (tmp_path / "labels").write_text('app="checkout"\ntier="a\\"b\\\\c"\n')
    found = PodIdentity.read(tmp_path, {"POD_NAMESPACE": "other", "POD_SERVICE_ACCOUNT": "robot"})
    assert found == PodIdentity("shop", "robot", {"app": "checkout", "tier": 'a"b\\c'})


def test_the_environment_alone_will_do() -> None:
    environ = {"POD_NAMESPACE": "shop", "POD_LABELS": 'a="1"'}
    assert PodIdentity.read(None, environ) == PodIdentity("shop", "", {"a": "1"})


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="pod_info"):
        PodIdentity.read(tmp_path / "none", {})


@given(st.dictionaries(NAMES, st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"])), max_size=5))
def test_labels_come_back_as_they_were_written(labels: dict[str, str]) -> None:
    def written(value: str) -> str:
        return value.replace("\\", "\\\\").replace('"', '\\"')

    assert parse_labels("\n".join(f'{name}="{written(value)}"' for name, value in labels.items())) == labels


@given(st.text(max_size=100))
def test_garbage_is_no_label_or_one(text: str) -> None:
    assert all(isinstance(value, str) for value in parse_labels(text).values())
