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
        "sep_token: [SEP]", "{'bos_token': '<s>'}", "unk_token=unk",
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


@pytest.mark.parametrize("text", SHOWN)
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


@pytest.mark.parametrize("text", SHOWN)
def test_no_log_of_a_failed_trial_carries_one(text: str) -> None:
    def connect(place: str) -> None:
        raise ConnectionError(f"no answer from {place}")

    with pytest.raises(ConnectionError) as caught:
        connect(text)
    failure = classify(caught.value)
    assert SECRET not in failure.message
    assert SECRET not in failure.log
