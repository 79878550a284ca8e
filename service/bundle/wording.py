"""Messages about what is invalid, in our words: pydantic's own name its types, and never reach a user."""

from collections.abc import Callable, Mapping
from typing import Any, Final

OTHERWISE: Final = "is not what it must be"

Context = Mapping[str, Any]

MOST_LETTERS: Final = 200
"""Of another library's message, which can quote a key of any length."""


def one_line(text: object, *, most: int = MOST_LETTERS) -> str:
    """A text, or the message of an error, as one line of a bounded length.

    Parameters
    ----------
    text : object
    most : int
        Characters; where there are more, the last one is an ellipsis.

    Examples
    --------
    >>> one_line("as  long as it is", most=8)
    'as long…'
    """
    words = " ".join(str(text).split())
    return words if len(words) <= most else f"{words[: most - 1]}…"


def reason(code: str, message: str, context: Context) -> str:
    """What a value must be.

    Parameters
    ----------
    code : str
        Pydantic's type of the error.
    message : str
        Its sentence, which is ours where a validator of ours raised it, and is not used otherwise.
    context : mapping
        Its bounds.

    Examples
    --------
    >>> reason("greater_than", "Input should be greater than 0", {"gt": 0.0})
    'must be greater than 0'
    >>> reason("new_in_a_later_release", "Input should be new", {})
    'is not what it must be'
    """
    if code in {"value_error", "assertion_error"}:
        return message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
    words = WORDS.get(code)
    if words is None:
        return OTHERWISE
    return words if isinstance(words, str) else words(context)


def _number(value: object) -> str:
    """A bound without the zeros that a float would be written out with."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _bound(words: str, key: str) -> Callable[[Context], str]:
    return lambda context: f"must be {words} {_number(context.get(key))}"


def _items(words: str, key: str) -> Callable[[Context], str]:
    def message(context: Context) -> str:
        bound = context.get(key)
        actual = context.get("actual_length")
        return f"must have {words} {bound} item{'' if bound == 1 else 's'}{'' if actual is None else f', not {actual}'}"

    return message


def _letters(words: str, key: str) -> Callable[[Context], str]:
    def message(context: Context) -> str:
        bound = context.get(key)
        return f"must have {words} {bound} character{'' if bound == 1 else 's'}"

    return message


WHOLE: Final = "must be a whole number, written without a point"
TEXT: Final = "must be a string"
OBJECT: Final = "must be an object of names and values"

WORDS: Final[dict[str, str | Callable[[Context], str]]] = {
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "dict_type": OBJECT,
    "enum": lambda context: f"must be {context.get('expected')}",
    "extra_forbidden": "is not known here",
    "finite_number": "must be a finite number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "frozen_field": "cannot be changed",
    "frozen_instance": "cannot be changed",
    "greater_than": _bound("greater than", "gt"),
    "greater_than_equal": _bound("greater than or equal to", "ge"),
    "int_from_float": WHOLE,
    "int_parsing": WHOLE,
    "int_parsing_size": "must be a smaller whole number",
    "int_type": WHOLE,
    "invalid_key": "must have strings for names",
    "json_invalid": "is not valid JSON",
    "json_type": "must be JSON",
    "less_than": _bound("less than", "lt"),
    "less_than_equal": _bound("less than or equal to", "le"),
    "list_type": "must be a list",
    "literal_error": lambda context: f"must be {context.get('expected')}",
    "mapping_type": OBJECT,
    "missing": "is required",
    "model_attributes_type": OBJECT,
    "model_type": OBJECT,
    "multiple_of": _bound("a multiple of", "multiple_of"),
    "none_required": "must be absent",
    "string_pattern_mismatch": lambda context: f"must match the pattern {context.get('pattern')}",
    "string_too_long": _letters("at most", "max_length"),
    "string_too_short": _letters("at least", "min_length"),
    "string_type": TEXT,
    "string_unicode": "must be valid Unicode text",
    "too_long": _items("at most", "max_length"),
    "too_short": _items("at least", "min_length"),
    "tuple_type": "must be a list",
    "union_tag_invalid": "is of no kind that is known here",
    "union_tag_not_found": "does not name its kind",
}
