"""Settings of the user and of a workspace: defaults, values, and a sentence for each mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestra.settings import (
    UserSettings,
    WorkspaceSettings,
    user_settings,
    user_settings_path,
    workspace_settings,
)
from orchestra.wire.errors import UsageError


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this user's settings lie."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    path = user_settings_path()
    path.parent.mkdir(parents=True)
    return path


def test_without_files_all_is_default(user: Path, tmp_path: Path) -> None:
    assert user_settings() == UserSettings(())
    assert workspace_settings(tmp_path) == WorkspaceSettings(None, ())


def test_an_empty_file_is_all_default(user: Path, tmp_path: Path) -> None:
    user.write_text("")
    (tmp_path / "orchestra.toml").write_text("[gpus]\n")
    assert user_settings() == UserSettings(())
    assert workspace_settings(tmp_path) == WorkspaceSettings(None, ())


def test_a_command_is_split_into_words_as_a_shell_does(user: Path) -> None:
    user.write_text('[notify]\ncommand = """curl -H \'A: b c\' -d @- https://x"""\n')
    assert user_settings().notify_command == ("curl", "-H", "A: b c", "-d", "@-", "https://x")


def test_a_workspace_may_not_bring_a_command(user: Path, tmp_path: Path) -> None:
    (tmp_path / "orchestra.toml").write_text('[notify]\ncommand = "evil"\n')
    with pytest.raises(
        UsageError, match=r"only the tables \[gpus\] and \[upstreams\] are known here"
    ):
        workspace_settings(tmp_path)
    assert user_settings() == UserSettings(())


def test_without_xdg_the_settings_lie_in_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for unset in ("", None):
        if unset is None:
            monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
        else:
            monkeypatch.setenv("XDG_CONFIG_HOME", unset)
        assert user_settings_path() == tmp_path / ".config" / "orchestra" / "settings.toml"


def test_a_limit_and_ids(tmp_path: Path) -> None:
    path = tmp_path / "orchestra.toml"
    path.write_text('[gpus]\nlimit = 0\nids = ["0", "GPU-1f"]\n')
    assert workspace_settings(tmp_path) == WorkspaceSettings(0, ("0", "GPU-1f"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[notify\n", "cannot read"),
        ("[notify]\ncommand = 3\n", "notify.command = 3: give a text"),
        ("[notify]\ncommand = true\n", "notify.command = True: give a text"),
        ('[notify]\ncommand = "curl \'x"\n', "notify.command can't be split into words"),
        ("[notify]\ncomand = 'x'\n", "unknown key notify.comand: keys are command"),
        ("notify = 'curl'\n", "'notify': only a table [notify] is known here"),
        ("[mail]\nto = 'x'\n", "'mail': only a table [notify] is known here"),
    ],
)
def test_a_mistake_of_the_user_is_a_sentence(user: Path, text: str, said: str) -> None:
    user.write_text(text)
    with pytest.raises(UsageError) as error:
        user_settings()
    assert said in str(error.value)
    assert str(user) in str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("limit = 2", "'limit': only the tables [gpus] and [upstreams] are known here"),
        ("[gpus]\nlimit = -1", "gpus.limit = -1: give 0 or more"),
        ("[gpus]\nlimit = true", "gpus.limit = True: give a whole number"),
        ("[gpus]\nlimit = 1.5", "gpus.limit = 1.5: give a whole number"),
        ("[gpus]\nids = '0'", "gpus.ids = '0': give a list"),
        ("[gpus]\nids = [0]", 'gpus.ids: give texts, such as ["0", "1"]'),
        ("[gpus]\nuuids = []", "unknown key gpus.uuids: keys are limit, ids"),
        ("[gpus]\nlimit = ", "cannot read"),
    ],
)
def test_a_mistake_of_a_workspace_is_a_sentence(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "orchestra.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as error:
        workspace_settings(tmp_path)
    assert said in str(error.value)
    assert str(path) in str(error.value)


def test_a_file_that_cannot_be_read_is_a_sentence(user: Path) -> None:
    user.mkdir()
    with pytest.raises(UsageError, match="cannot read"):
        user_settings()
    user.rmdir()
    user.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="cannot read"):
        user_settings()
