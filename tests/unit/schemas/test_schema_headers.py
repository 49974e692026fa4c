from schemas import headers


def test_absent_values_make_no_header() -> None:
    made = headers.make_headers(((headers.TURN, "t"), (headers.TRACEPARENT, None), (headers.REPLAY, "")))
    assert made == ((headers.TURN, b"t"), (headers.REPLAY, b""))


def test_the_first_value_of_a_name_wins() -> None:
    assert headers.header((("a", b"1"), ("b", b"2"), ("a", b"3")), "a") == "1"


def test_an_absent_or_unreadable_header_is_none() -> None:
    assert headers.header((), headers.TURN) is None
    assert headers.header(((headers.TURN, b"\xff"),), headers.TURN) is None


def test_text_goes_through_as_utf8() -> None:
    assert headers.header(headers.make_headers((("who", "Zoë"),)), "who") == "Zoë"


def test_header_names_are_distinct() -> None:
    names = [value for name, value in vars(headers).items() if name.isupper()]
    assert len(names) == len(set(names)) > 5
