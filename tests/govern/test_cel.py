"""What an expression reads is known, each field is a variable of its own, and one mistake is one rule's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.govern.cel import Batch, Expression, ExpressionError, header_variable, new_context, one, variable

VALUES = {variable("model"): "m", variable("messages"): 2, variable("params"): {"n": 3}, header_variable("x-a"): "1"}


@pytest.mark.parametrize(
    ("source", "fields", "headers"),
    [
        ("request.model == 'm'", {"model"}, set()),
        ('request . model == "request.text" // request.tools\n', {"model"}, set()),
        ("request.headers['x-a'] == '1' && request.headers.x_b == ''", {"headers"}, {"x-a", "x_b"}),
        ("['request.text'].exists(one, one == request.model)", {"model"}, set()),
        ("usage.exists(request_id, true) || principal.request == 1", set(), set()),
        ("has(request.params.n) && request.params.n > 1", {"params"}, set()),
        ("r'''request.text''' != request.model", {"model"}, set()),
    ],
)
def test_what_is_read_is_known(source: str, fields: set[str], headers: set[str]) -> None:
    found = Expression(source)
    assert (found.fields, found.headers) == (fields, headers)


@pytest.mark.parametrize(
    ("source", "answer"),
    [
        ("request.model == 'm' && request.messages > 1", True),
        ("has(request.model)", True),
        ("has(request.params.n) && request.params.n == 3", True),
        ("has(request.params.x)", False),
        ("request.headers['x-a'] == '1'", True),
        ("request.headers['x-a'].startsWith('2') // a comment", False),
        ("request.model in ['m', 'request.model']", True),
        ("size(request.model) == 1 ? request.messages == 2 : false", True),
    ],
)
def test_a_field_is_a_variable_of_its_own(source: str, answer: bool) -> None:
    found = Expression(source)
    assert one(found, new_context(VALUES)) is answer
    assert list(Batch([found, found]).evaluate(new_context(VALUES))) == [answer, answer]


def test_in_a_batch_one_mistake_is_one_answer() -> None:
    batch = Batch(
        [Expression(text) for text in ("request.model == 'm'", "request.params.x > 1", "request.messages > 5")]
    )
    right, wrong, false = batch.evaluate(new_context(VALUES))
    assert (right, false) == (True, False)
    assert isinstance(wrong, ExpressionError)
    assert "x" not in str(wrong).split()


def test_what_gives_no_truth_value_is_a_mistake() -> None:
    answers = Batch([Expression("request.model"), Expression("true")]).evaluate(new_context(VALUES))
    assert isinstance(answers[0], ExpressionError)
    assert answers[1] is True


@pytest.mark.parametrize(
    "source",
    ["", "request", "request['model'] == 'm'", "[1].exists(request, true)", "nope == 1", "request.model +", "a.b.c()"],
)
def test_what_cannot_be_used_is_said_at_once(source: str) -> None:
    with pytest.raises(ExpressionError):
        Expression(source)


@given(st.text(alphabet="request.model()'\"[]{}/ \n\\&|=!<>x0,?:", max_size=40))
def test_any_text_is_an_expression_or_the_declared_error(source: str) -> None:
    try:
        found = Expression(source)
    except ExpressionError:
        return
    assert isinstance(one(found, new_context(VALUES)), (bool, Exception))
    Batch([found, found]).evaluate(new_context(VALUES))
