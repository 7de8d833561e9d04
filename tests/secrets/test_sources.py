"""Where credentials come from, and what happens when they change or fail."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from outrider.config.schema import Credential
from outrider.errors import CredentialUnavailableError
from outrider.secrets.sources import AwsCredentials, AwsSource, EnvSource, FileSource, source_for

PLANTED = "sk-PLANTED"


def test_a_variable_is_read_once_from_the_mapping() -> None:
    environ = {"K": PLANTED + "\n"}
    source = EnvSource("K", environ)
    environ["K"] = "other"
    assert source.current().expose() == PLANTED.encode()
    assert source.current() is source.current()
    assert source.refresh() is None
    assert (source.generation, source.describe()) == (1, "env K")


@pytest.mark.parametrize(
    ("environ", "says"),
    [({}, "is not set; set it and restart"), ({"K": ""}, "is empty"), ({"K": f"{PLANTED}\nx"}, "more than one line")],
)
def test_a_variable_that_is_no_secret_is_unavailable_with_a_sentence(environ: dict[str, str], says: str) -> None:
    source = EnvSource("K", environ)
    assert source.generation == 0
    with pytest.raises(CredentialUnavailableError, match=says) as failed:
        source.current()
    assert "environment variable K" in str(failed.value)
    assert "PLANTED" not in str(failed.value)


def test_a_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("one\n")
    source = FileSource(path)
    first = source.current()
    assert source.refresh() is None
    assert source.current() is first
    draft = tmp_path / "draft"
    draft.write_text("two\n")
    draft.rename(path)
    assert source.refresh() is None
    assert source.current().expose() == b"two"
    assert (source.generation, source.describe()) == (2, f"file {path}")


def test_a_file_rewritten_with_the_same_secret_keeps_its_generation(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("one\n")
    source = FileSource(path)
    first = source.current()
    path.write_text("one")
    assert source.refresh() is None
    assert source.current() is first
    assert source.generation == 1


def test_a_kubernetes_data_swap_is_seen(tmp_path: Path) -> None:
    for name, key in (("..1", "first"), ("..2", "other")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "key").write_text(key)
        os.utime(tmp_path / name / "key", (1, 1))
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "key").symlink_to("..data/key")
    source = FileSource(tmp_path / "key")
    assert source.current().expose() == b"first"
    (tmp_path / "..data_tmp").symlink_to("..2")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    source.refresh()
    assert source.current().expose() == b"other"


def test_the_last_good_secret_stays_when_the_file_goes_bad_and_is_warned_of_once(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("good")
    source = FileSource(path)
    path.unlink()
    warning = source.refresh()
    assert warning is not None
    assert "cannot be read: no such file or directory; the last good one stays in use" in warning
    assert source.refresh() is None
    path.write_text(f"{PLANTED}\ntwo lines")
    warning = source.refresh()
    assert warning is not None
    assert "more than one line" in warning
    assert "PLANTED" not in warning
    assert source.current().expose() == b"good"
    path.write_text("better")
    assert source.refresh() is None
    assert source.current().expose() == b"better"


def test_a_file_that_never_was_readable_is_unavailable_until_it_appears(tmp_path: Path) -> None:
    path = tmp_path / "key"
    source = FileSource(path)
    with pytest.raises(CredentialUnavailableError, match="put the key there, readable by this user"):
        source.current()
    path.write_text("k" * 20_000)
    source.refresh()
    with pytest.raises(CredentialUnavailableError, match="larger than 16384 bytes"):
        source.current()
    path.write_text("here")
    source.refresh()
    assert source.current().expose() == b"here"


class FakeChain:
    """The part of botocore's credentials that the source uses."""

    def __init__(self, **frozen: str | None) -> None:
        self.frozen: dict[str, str | None] = {"access_key": "AKID", "secret_key": PLANTED, "token": None, **frozen}
        self.failure: Exception | None = None
        self._expiry_time: datetime | None = None

    def get_frozen_credentials(self) -> Any:
        if self.failure:
            raise self.failure
        return SimpleNamespace(**self.frozen)


class FakeSession:
    def __init__(self, chain: FakeChain | None) -> None:
        self.get_credentials = lambda: chain


def test_an_aws_profile_gives_frozen_credentials_and_follows_their_renewal() -> None:
    chain = FakeChain()
    source = AwsSource("work", session=lambda profile: FakeSession(chain))
    with pytest.raises(CredentialUnavailableError, match="has not been read yet"):
        source.current()
    assert source.refresh() is None
    first = source.current()
    assert (first.access_key, first.token, source.generation) == ("AKID", None, 1)
    assert source.refresh() is None
    assert source.current() is first
    chain.frozen |= {"access_key": "AKID2", "token": "t"}
    source.refresh()
    second = source.current()
    assert second.token is not None
    assert second.token.expose() == b"t"
    assert source.generation == 2
    assert "PLANTED" not in repr(second)
    assert "AKID2" not in repr(second)
    assert source.describe() == "aws profile work"


def test_an_expired_aws_credential_is_never_handed_out() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    chain = FakeChain()
    chain._expiry_time = now + timedelta(minutes=5)
    source = AwsSource("work", session=lambda profile: FakeSession(chain), now=lambda: now)
    source.refresh()
    assert isinstance(source.current(), AwsCredentials)
    chain.failure = ConnectionError(f"no route {PLANTED}")
    warning = source.refresh()
    assert warning == "AWS profile work gave no credential (ConnectionError); correct it"
    assert isinstance(source.current(), AwsCredentials)
    now += timedelta(minutes=5)
    with pytest.raises(CredentialUnavailableError, match="has expired"):
        source.current()


@pytest.mark.parametrize(
    ("chain", "says"),
    [(None, "has no credential"), (FakeChain(secret_key=f"{PLANTED}\n\n"), "one printable line")],
)
def test_a_profile_without_a_usable_credential_says_so(chain: FakeChain | None, says: str) -> None:
    source = AwsSource("work", session=lambda profile: FakeSession(chain))
    warning = source.refresh()
    assert warning is not None
    assert says in warning
    assert "PLANTED" not in warning
    with pytest.raises(CredentialUnavailableError, match=says):
        source.current()


def test_without_botocore_the_extra_is_named() -> None:
    def missing(profile: str) -> Any:
        raise ModuleNotFoundError("No module named 'botocore'")

    assert AwsSource("p", session=missing).refresh() == (
        "credentials of an AWS profile need botocore; install outrider[aws]"
    )


def test_the_real_chain_reads_a_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = tmp_path / "credentials"
    shared.write_text(f"[work]\naws_access_key_id = AKIDREAL\naws_secret_access_key = {PLANTED}\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(shared))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    source = AwsSource("work")
    assert source.refresh() is None
    assert source.current().secret.expose() == PLANTED.encode()
    assert AwsSource("other").refresh() == "AWS profile other gave no credential (ProfileNotFound); correct it"


def test_a_credential_setting_gives_its_source(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("f")
    assert isinstance(source_for(Credential(env="K"), {"K": "v"}), EnvSource)
    assert isinstance(source_for(Credential(file=tmp_path / "key"), {}), FileSource)
    assert isinstance(source_for(Credential(aws="p"), {}), AwsSource)


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"AWS_ACCESS_KEY_ID": "AKIA"}, "AWS_SECRET_ACCESS_KEY is not set"),
        ({"AWS_SECRET_ACCESS_KEY": PLANTED}, "AWS_ACCESS_KEY_ID is not set"),
    ],
)
def test_half_a_pair_of_access_keys_is_unavailable_with_a_sentence(environ: dict[str, str], says: str) -> None:
    source = source_for(Credential(env="AWS_ACCESS_KEY_ID"), environ)
    assert source.generation == 0
    with pytest.raises(CredentialUnavailableError, match=says):
        source.current()


def test_access_keys_in_variables_are_a_pair_with_or_without_a_session_token() -> None:
    pair = {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": PLANTED}
    source = source_for(Credential(env="AWS_ACCESS_KEY_ID"), pair)
    held = source.current()
    assert isinstance(held, AwsCredentials)
    assert (held.access_key, held.secret.expose(), held.token) == ("AKIA", PLANTED.encode(), None)
    assert (source.generation, source.refresh(), source.describe()) == (1, None, "env AWS_ACCESS_KEY_ID")
    with_token = source_for(Credential(env="AWS_ACCESS_KEY_ID"), pair | {"AWS_SESSION_TOKEN": "T"}).current()
    assert isinstance(with_token, AwsCredentials)
    assert with_token.token is not None


def test_what_is_held_is_what_is_current(tmp_path: Path) -> None:
    """`held` is looked at for every request, in place of a call."""
    path = tmp_path / "key"
    source = FileSource(path)
    assert source.held.value is None
    path.write_text("sk-one")
    source.refresh()
    assert source.held.value is source.current()
    path.unlink()
    source.refresh()
    assert source.held.value is source.current()  # the last good one
    path.write_text("sk-another")
    source.refresh()
    assert source.held.value is source.current()
    assert source.current().expose() == b"sk-another"
    assert EnvSource("K", {}).held.value is None
    known = EnvSource("K", {"K": "sk"})
    assert known.held.value is known.current()
