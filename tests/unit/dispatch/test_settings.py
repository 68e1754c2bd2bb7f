"""What the configuration refuses, and who comes in."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from agent.config.section import ConfigError
from agent.dispatch.access import Access, Who, new_token
from agent.dispatch.main import _parser, settings_of
from agent.dispatch.settings import DispatchFile
from agent.dispatch.store.engine import engine_of

BROKER = {"host": "localhost", "port": 1883, "allow_plaintext": True}


def settings(**more: Any) -> DispatchFile:
    return DispatchFile.model_validate({"broker": BROKER} | more)


def test_beyond_loopback_there_is_no_plain_text_and_nobody_comes_in_unknown() -> None:
    with pytest.raises(ValidationError, match="TLS"):
        settings(listen={"host": "0.0.0.0"})
    tls = {"host": "0.0.0.0", "certificate_file": "a.pem", "key_file": "a.key"}
    with pytest.raises(ValidationError, match=r"\[\[tokens\]\]"):
        settings(listen=tls)
    assert settings(listen=tls, tokens=[new_token("anna", "dispatch")[1].model_dump()]).listen.port == 8480


def test_options_stand_above_the_file() -> None:
    args = _parser().parse_args(
        [
            "run",
            "--broker",
            "mqtts://anna@broker:8884",
            "--store",
            "postgresql://h/d",
            "--listen",
            "[::1]:9000",
        ]
    )
    made = settings_of(args)
    assert (made.broker.host, made.broker.port, made.broker.username) == ("broker", 8884, "anna")
    assert made.broker.tls is not None
    assert (made.store, made.listen.host, made.listen.port) == ("postgresql://h/d", "::1", 9000)


@pytest.mark.parametrize(
    "url", ["http://x", "mqtt://", "mqtt://u:secret@h", "mqtt://h:99999", "mqtt://h/topic"]
)
def test_a_broker_that_is_none_is_refused_without_its_password(url: str) -> None:
    args = _parser().parse_args(["run", "--broker", url])
    with pytest.raises(ConfigError) as refused:
        settings_of(args)
    assert "secret" not in str(refused.value)


def test_a_store_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="mysql"):
        engine_of("mysql://h/d")


def test_a_password_in_a_store_url_is_never_shown() -> None:
    assert "hush" not in engine_of("postgresql://anna:hush@h/d").where


def test_a_token_lets_in_whom_it_names() -> None:
    secret, row = new_token("anna", "safety")
    access = Access([row])
    assert access.by_token(secret) == Who("anna", "safety")
    assert access.by_token(secret + "x") is None
    assert access.by_token("") is None
    assert secret not in row.model_dump_json()
    assert Who("anna", "safety").may("tracks")
    assert not Who("anna", "safety").may("command")
