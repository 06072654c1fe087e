from __future__ import annotations

import inspect

import pytest
from django.core.exceptions import ImproperlyConfigured

from wagtail_live import exceptions
from wagtail_live.exceptions import BadCursor, Forbidden, LiveConfigurationError, LiveError

ERRORS = [
    error
    for _, error in inspect.getmembers(exceptions, inspect.isclass)
    if issubclass(error, LiveError)
]


def instance(error: type[LiveError]) -> LiveError:
    return error("expired") if error is BadCursor else error()


@pytest.mark.parametrize("error", ERRORS)
def test_the_docstring_is_the_message(error: type[LiveError]) -> None:
    assert instance(error).message == " ".join((error.__doc__ or "").split())
    assert str(instance(error)) == instance(error).message


@pytest.mark.parametrize("error", ERRORS)
def test_a_message_is_sentences_that_say_what_is_wrong_and_what_to_do(
    error: type[LiveError],
) -> None:
    message = instance(error).message
    assert message[0].isupper()
    assert message.endswith(".")
    assert message.count(". ") >= 1


def test_an_error_may_say_more_precisely_what_is_wrong() -> None:
    assert Forbidden("Not you.").message == "Not you."


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [error.code for error in ERRORS]
    assert len(set(codes)) == len(codes)
    assert all(code == code.upper() for code in codes)


def test_the_code_is_the_classs_name_except_for_the_base() -> None:
    for error in ERRORS:
        if error is not LiveError:
            assert error.code.replace("_", "") == error.__name__.upper()


def test_a_bad_cursor_says_why() -> None:
    assert BadCursor("expired").reason == "expired"


def test_a_configuration_error_is_one_that_django_knows_and_never_goes_on_the_wire() -> None:
    assert issubclass(LiveConfigurationError, ImproperlyConfigured)
    assert not issubclass(LiveConfigurationError, LiveError)
