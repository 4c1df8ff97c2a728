from __future__ import annotations

import pytest

from auditcore.contracts.model_faults import blaming_model
from auditcore.errors import AuditCancelled, DigestMismatch, LabelOutOfRange, ModelNotLoadable


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("model", "models.1.model"),
        ("model.weights.uri", "models.1.model.weights.uri"),
        ("model.model", "models.1.model.model"),
    ],
)
def test_a_field_of_the_model_is_named_as_the_request_has_it(field: str, expected: str) -> None:
    msg = "it does not fit"
    with pytest.raises(ModelNotLoadable) as caught, blaming_model("new", 1):
        raise ModelNotLoadable(msg, field=field)
    assert (caught.value.field, caught.value.message) == (expected, msg)


def test_an_error_about_anything_else_names_the_model() -> None:
    with pytest.raises(LabelOutOfRange) as caught, blaming_model("new", 1):
        raise LabelOutOfRange(label=7, classes=3, field="images.labels.0")
    assert caught.value.field == "images.labels.0"
    assert caught.value.message == str(caught.value)
    assert caught.value.message.startswith("model 'new': label 7")


def test_an_audit_of_one_model_has_nothing_to_add() -> None:
    with pytest.raises(DigestMismatch) as caught, blaming_model(None, 0):
        raise DigestMismatch(expected="a", actual="b", field="model.weights.sha256")
    assert caught.value.field == "model.weights.sha256"
    assert not caught.value.message.startswith("model")


def test_errors_that_are_not_of_the_input_pass_unchanged() -> None:
    with pytest.raises(AuditCancelled), blaming_model("new", 1):
        raise AuditCancelled
