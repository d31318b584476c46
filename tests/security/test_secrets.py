"""Passwords and tokens are never shown, logged, or sent to MLflow."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlt_ray import errors
from xlt_ray.errors import XltError
from xlt_ray.redact import redacted
from xlt_ray.sweep.failures import classify

SECRET = "s3cr3t-Xy"
TOKEN = f"{SECRET}Za9Qb8Rc7Sd6"
SHOWN = [
    f"postgresql://ada:{SECRET}@db:5432/xlt",
    f"postgresql+psycopg://ada:{SECRET}@db/xlt?sslmode=require",
    f"postgresql://:{SECRET}@db/xlt",
    f"postgresql://ada:a/{SECRET}@db/xlt",
    f"postgresql://ada:a@{SECRET}@db/xlt",
    f"mysql+pymysql://ada:{SECRET}@db/xlt",
    f"https://ada:{SECRET}@host/path?x=1",
    f"https://{SECRET}@host/repository.git",
    f"s3://{'AKIA'}:{SECRET}@bucket/key",
    f"https://bucket/key?X-Amz-Signature={SECRET}&x=1",
    f"https://account.blob/container?sv=1&sig={SECRET}",
    f"http://mlflow:5000/?token={SECRET}",
    f"connection failed: host=db user=ada password={SECRET} dbname=xlt",
    f"PGPASSWORD={SECRET} xlt run s.yaml",
    f"AWS_SECRET_ACCESS_KEY={SECRET}",
    f'{{"password": "{SECRET}"}}',
    f"MLFLOW_TRACKING_PASSWORD={SECRET}",
    f"RAY_AUTH_TOKEN={SECRET}",
    f"AWS_SESSION_TOKEN={SECRET}",
    f"MLFLOW_TRACKING_TOKEN={SECRET}",
    f"MLFLOW_FLASK_SERVER_SECRET_KEY={SECRET}",
    f"HF_TOKEN={SECRET} xlt run s.yaml",
    f"{{'HF_HUB_TOKEN': '{SECRET}', 'api_key': '{SECRET}'}}",
    f"{{'Authorization': 'Bearer {SECRET}'}}",
    f"authorization: bearer {SECRET}",
    f"Authorization: token {SECRET}",
    f"Proxy-Authorization: Basic {SECRET}",
    f"curl -H 'authorization: {SECRET}'",
    f"hf_{TOKEN}",
    f"error for token hf_{TOKEN}, try again",
    f"ghp_{TOKEN} gho_{TOKEN}",
    f"github_pat_{TOKEN}",
    f"glpat-{TOKEN}",
    f"xoxb-{TOKEN}",
    f"sk-{TOKEN}",
    f"eyJhbGciOiJIUzI1NiJ9.{TOKEN}.{TOKEN}",
    f"pwd={SECRET}",
    f"Server=db;Uid=ada;Pwd={SECRET};",
    f"DB_PASS={SECRET}",
    f"passphrase: {SECRET}",
    f"api-key: {SECRET}",
    f"X-Api-Key: {SECRET}",
    f"apiKey={SECRET}",
    f"AccountName=a;AccountKey={SECRET}==;EndpointSuffix=x",
    f"SharedAccessKey={SECRET}",
    f"client_secret={SECRET}",
    f"clientSecret: '{SECRET}'",
    f"GITHUB_TOKEN={SECRET}",
    f"refresh_token={SECRET}",
    f"X-Amz-Signature={SECRET}",
    f"X-Amz-Security-Token={SECRET}",
    f"X-Goog-Signature={SECRET}&x=1",
    f"sig={TOKEN}%3D",
    f"https://host/path?key={SECRET}",
    f"xlt run s.yaml --password {SECRET}",
    f"--api-key={SECRET}",
    f"password='two words {SECRET}'",
    f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n-----END RSA PRIVATE KEY-----",
    f"-----BEGIN PRIVATE KEY-----\n{SECRET}",
    f"private_key={SECRET}",
    f"token={TOKEN}",
    f'{{"token": "{TOKEN}"}}',
    f"DATABRICKS_TOKEN={TOKEN}",
    f"X-Vault-Token: {TOKEN}",
    f"jwt: {TOKEN}",
    f"REDIS_AUTH={TOKEN}",
    f"KAGGLE_KEY={TOKEN}",
    f"PASS={TOKEN}",
    f"Cookie: session={SECRET}; Path=/",
    f"FATAL: password '{SECRET}' rejected",
    f"https://hooks.slack.com/services/T0/B0/{SECRET}",
    f"https://api.telegram.org/bot12:{SECRET}/sendMessage",
    f"sk_live_{TOKEN} gsk_{TOKEN}",
]


@pytest.mark.parametrize("text", SHOWN)
def test_a_secret_is_shown_nowhere(text: str) -> None:
    assert SECRET not in redacted(text)
    assert "***" in redacted(text)
    assert SECRET not in str(redacted({"a": [text, (text,)]}))
    assert redacted(redacted(text)) == redacted(text)


@pytest.mark.parametrize(
    "text",
    [
        "postgresql+psycopg://xlt@db/xlt", "http://127.0.0.1:5000", "s3://bucket/key",
        "loss = self.head(tokens)[0]", "a: b@c", "x@y.org", "12:30 at 5@6",
        "sqlite:////home/ada/mlflow.db", "pad_token=tokenizer.pad_token",
        "sep_token: [SEP]", "{'bos_token': '<s>'}", "unk_token=unk", "ZeRO stage=3",
        "passes=2", "pass: 3 of 4", "basic questions", "a bearer of news", "key=target.size",
        "KeyError: 'preemption_policy'", "stage c61edeef0c7a", "--tokens 512", "tokenizer=xlm-r",
        "mask_token: <extra_id_99>", "token: preemption_policy", "auth=none",
        "stage_key=c61edeef0c7a", "password authentication failed for user 'ada'",
        "eos_token_id=128001",
        "the signature of load() changed", "seed=7", "signal=15", "config=a", "task-a sk-1",
    ],
)  # fmt: skip
def test_what_is_no_secret_stays_as_it_is(text: str) -> None:
    assert redacted(text) == text


LETTERS = st.characters(codec="utf-8", exclude_characters="\"'", exclude_categories=("Z", "C"))
WORDS = st.text(LETTERS, min_size=1)


@given(
    st.sampled_from(["postgresql", "postgresql+psycopg", "mysql", "https", "redis"]),
    st.from_regex(r"[a-z]{1,8}", fullmatch=True),
    WORDS,
    st.sampled_from(["", "could not reach ", "a, b: "]),
)
def test_whatever_a_password_is_made_of_it_is_left_out(
    scheme: str, user: str, password: str, before: str
) -> None:
    text = f"{before}{scheme}://{user}:{password}@host/x"
    assert redacted(text) == f"{before}{scheme}://{user}:***@host/x"


@pytest.mark.parametrize(
    "name", ["password", "PGPASSWORD", "api_key", "client_secret", "token", "hf_token"]
)
def test_the_value_of_a_key_that_names_a_secret_is_left_out(name: str) -> None:
    assert redacted({"places": {name: SECRET, "user": "ada"}}) == {
        "places": {name: "***", "user": "ada"}
    }
    assert redacted({name: ""}) == {name: ""}


@pytest.mark.parametrize("text", SHOWN[::12])
def test_no_error_of_ours_carries_one(text: str) -> None:
    for error in (
        XltError(text),
        errors.SpecError("is wrong", key=f"places.ledger: {text}"),
        errors.SpecErrors([errors.SpecError(text)]),
        errors.LedgerError(text),
        errors.TrackingError("no answer", uri=text),
        errors.TrialFailure(text, cause="lost"),
    ):
        assert SECRET not in str(error)
        assert SECRET not in error.message
        assert SECRET not in str(pickle.loads(pickle.dumps(error)))


@pytest.mark.parametrize("text", SHOWN[::12])
def test_no_log_of_a_failed_trial_carries_one(text: str) -> None:
    def connect(place: str) -> None:
        raise ConnectionError(f"no answer from {place}")

    with pytest.raises(ConnectionError) as caught:
        connect(text)
    failure = classify(caught.value)
    assert SECRET not in failure.message
    assert SECRET not in failure.log
