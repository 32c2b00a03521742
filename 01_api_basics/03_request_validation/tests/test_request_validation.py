"""The specification of request validation, requirement by requirement."""

import json
from typing import Any

import pytest
from httpx2 import Response

from grader.solution import Client

Json = dict[str, Any]
SECRET = "Tr0ub4dor-and-3"
ROOT = ""  # the path of the whole body


def send(client: Client, path: str, body: str | bytes, content_type: str = "application/json") -> Response:
    """Send a body as it is: json.dumps would not write some of them."""
    return client.post(path, content=body, headers={"Content-Type": content_type} if content_type else {})


def with_value(body: Json, field: str, literal: str) -> str:
    """The body as JSON text, one field as written, or added."""
    fields = {name: json.dumps(value) for name, value in body.items()} | {field: literal}
    return "{" + ", ".join(f"{json.dumps(name)}: {value}" for name, value in fields.items()) + "}"


def without(body: Json, *fields: str) -> Json:
    return {name: value for name, value in body.items() if name not in fields}


def wrong_fields(response: Response) -> set[str]:
    """The paths that an error answer names; its shape is checked on the way."""
    errors = response.json()["errors"]
    assert isinstance(errors, list)
    assert errors
    for error in errors:
        assert all(isinstance(error[key], str) for key in ("field", "code", "message"))
        assert error["code"]
        assert error["message"]
    return {error["field"] for error in errors}


def has_secret(response: Response) -> bool:
    """Whether the answer has six characters of the secret in a row, in its body or its headers."""
    told = f"{response.headers}{response.text}"
    return any(SECRET[start : start + 6] in told for start in range(len(SECRET) - 5))


def assert_refused(response: Response, *fields: str) -> None:
    """It is a 422, and its errors name these fields and no others."""
    assert response.status_code == 422
    assert wrong_fields(response) == set(fields)


# 1. Required and optional fields.


@pytest.mark.requirement(1)
def test_a_right_product_is_answered_with_all_its_fields(client: Client, keyboard: Json) -> None:
    response = client.post("/products", json=keyboard)

    assert response.status_code == 201
    assert response.json() == keyboard | {"price": "49.90"}


@pytest.mark.requirement(1)
def test_a_right_user_is_answered_with_all_fields_but_the_password(client: Client, ada: Json) -> None:
    response = client.post("/users", json=ada)

    assert response.status_code == 201
    assert response.json() == without(ada, "password")


@pytest.mark.requirement(1)
def test_what_a_product_may_leave_out_has_its_default(client: Client) -> None:
    response = client.post("/products", json={"name": "Keyboard", "price": 1})

    assert response.status_code == 201
    assert response.json() == {"name": "Keyboard", "price": "1.00", "quantity": 1, "tags": [], "dimensions": None}


@pytest.mark.requirement(1)
def test_what_a_user_may_leave_out_has_its_default(client: Client, ada: Json) -> None:
    response = client.post("/users", json=without(ada, "referral"))

    assert response.status_code == 201
    assert response.json()["referral"] is None


@pytest.mark.requirement(1)
@pytest.mark.parametrize("path, field", [("/products", "dimensions"), ("/users", "referral")])
def test_a_field_whose_default_is_null_may_be_null(
    client: Client, bodies: dict[str, Json], path: str, field: str
) -> None:
    response = client.post(path, json=bodies[path] | {field: None})

    assert response.status_code == 201
    assert response.json()[field] is None


@pytest.mark.requirement(1)
@pytest.mark.parametrize("field", ["name", "price"])
def test_a_product_without_a_required_field_is_refused(client: Client, keyboard: Json, field: str) -> None:
    assert_refused(client.post("/products", json=without(keyboard, field)), field)


@pytest.mark.requirement(1)
@pytest.mark.parametrize("field", ["name", "email", "age", "password"])
def test_a_user_without_a_required_field_is_refused(client: Client, ada: Json, field: str) -> None:
    assert_refused(client.post("/users", json=without(ada, field)), field)


@pytest.mark.requirement(1)
@pytest.mark.parametrize("field", ["width", "height"])
def test_dimensions_without_a_required_field_are_refused(client: Client, keyboard: Json, field: str) -> None:
    dimensions = without(keyboard["dimensions"], field)

    assert_refused(client.post("/products", json=keyboard | {"dimensions": dimensions}), f"dimensions.{field}")


@pytest.mark.requirement(1)
@pytest.mark.parametrize("field", ["name", "price", "quantity", "tags"])
def test_a_field_of_a_product_that_is_null_is_refused(client: Client, keyboard: Json, field: str) -> None:
    assert_refused(client.post("/products", json=keyboard | {field: None}), field)


@pytest.mark.requirement(1)
@pytest.mark.parametrize("field", ["name", "email", "age", "password"])
def test_a_field_of_a_user_that_is_null_is_refused(client: Client, ada: Json, field: str) -> None:
    assert_refused(client.post("/users", json=ada | {field: None}), field)


@pytest.mark.requirement(1)
@pytest.mark.parametrize(
    "blank",
    [
        pytest.param("", id="empty"),
        pytest.param("   ", id="spaces"),
        pytest.param("\t\r\n", id="tab and line break"),
        pytest.param("\u00a0\u3000", id="no-break and ideographic space"),
    ],
)
def test_a_blank_text_is_refused(client: Client, keyboard: Json, ada: Json, blank: str) -> None:
    assert_refused(client.post("/products", json=keyboard | {"name": blank}), "name")
    assert_refused(client.post("/users", json=ada | {"name": blank}), "name")
    assert_refused(client.post("/products", json=keyboard | {"tags": ["usb", blank]}), "tags.1")


@pytest.mark.requirement(1)
@pytest.mark.parametrize("field", ["colour", "id", "Name", "quantitiy", "__class__"])
def test_a_field_that_nobody_knows_is_refused(client: Client, keyboard: Json, ada: Json, field: str) -> None:
    assert_refused(client.post("/products", json=keyboard | {field: "x"}), field)
    assert_refused(client.post("/users", json=ada | {field: None}), field)


@pytest.mark.requirement(1)
def test_a_field_that_nobody_knows_is_refused_in_a_nested_object_too(client: Client, keyboard: Json) -> None:
    dimensions = keyboard["dimensions"] | {"depth": 20}

    assert_refused(client.post("/products", json=keyboard | {"dimensions": dimensions}), "dimensions.depth")


@pytest.mark.requirement(1)
@pytest.mark.parametrize(
    "text",
    [
        pytest.param("Tastatur 日本 👋🏽 “quoted” O'Brien <b> %s", id="of all scripts"),
        pytest.param("  two lines,\n\tindented \n", id="with its spaces and line breaks"),
    ],
)
def test_text_comes_back_as_it_was_sent(client: Client, keyboard: Json, text: str) -> None:
    product = client.post("/products", json=keyboard | {"name": text, "tags": [text[:30]]}).json()

    assert (product["name"], product["tags"]) == (text, [text[:30]])


# 2. Types and limits.

RIGHT = [
    pytest.param("/products", "name", '"x"', id="a name of 1 character"),
    pytest.param("/products", "name", json.dumps("x" * 100), id="a name of 100 characters"),
    pytest.param("/products", "name", json.dumps("😀" * 100), id="a name of 100 characters beyond the first 65,536"),
    pytest.param("/products", "quantity", "1", id="the least quantity"),
    pytest.param("/products", "quantity", "1000000", id="the largest quantity"),
    pytest.param("/products", "tags", "[]", id="no tags"),
    pytest.param("/products", "tags", json.dumps([str(n) for n in range(10)]), id="10 tags"),
    pytest.param("/products", "tags", json.dumps(["x" * 30, "y"]), id="a tag of 30 characters"),
    pytest.param("/products", "dimensions", '{"width": 1, "height": 10000}', id="the least and the largest dimension"),
    pytest.param("/users", "age", "19", id="19 years, the youngest"),
    pytest.param("/users", "age", "150", id="150 years, the oldest"),
    pytest.param("/users", "email", '"ada+news@mail.example.co.uk"', id="an email address with a plus and subdomains"),
    pytest.param("/users", "email", '"a.b_c-d@example-shop.org"', id="an email address with dots and hyphens"),
    pytest.param("/users", "referral", '"00000000"', id="a referral of digits"),
]


@pytest.mark.requirement(2)
@pytest.mark.parametrize("path, field, literal", RIGHT)
def test_a_value_within_the_limits_is_taken(
    client: Client, bodies: dict[str, Json], path: str, field: str, literal: str
) -> None:
    response = send(client, path, with_value(bodies[path], field, literal))

    assert response.status_code == 201
    assert response.json()[field] == json.loads(literal)


@pytest.mark.requirement(2)
@pytest.mark.parametrize(
    "literal, answered",
    [
        ("12.5", "12.50"),
        ("12.50", "12.50"),
        ("1.25e1", "12.50"),
        ("12", "12.00"),
        ("0.01", "0.01"),
        ("0.1", "0.10"),
        ("1.15", "1.15"),
        ("99999999.99", "99999999.99"),
    ],
)
def test_a_price_is_a_decimal_number_and_keeps_its_cents(
    client: Client, keyboard: Json, literal: str, answered: str
) -> None:
    response = send(client, "/products", with_value(keyboard, "price", literal))

    assert response.status_code == 201
    assert response.json()["price"] == answered


@pytest.mark.requirement(2)
@pytest.mark.parametrize(
    "password",
    [
        pytest.param("x" * 12, id="12 characters"),
        pytest.param("é" * 128, id="128 characters, twice as many bytes"),
        pytest.param(" " * 12, id="spaces only"),
    ],
)
def test_a_password_within_the_limits_is_taken(client: Client, ada: Json, password: str) -> None:
    assert client.post("/users", json=ada | {"password": password}).status_code == 201


WRONG_PRODUCTS = [
    pytest.param("price", "0", id="price is 0"),
    pytest.param("price", "-1", id="price is negative"),
    pytest.param("price", "0.001", id="price is less than a cent"),
    pytest.param("price", "9.999", id="price has three decimals"),
    pytest.param("price", "9.9900000000000000001", id="price has decimals that a float cannot hold"),
    pytest.param("price", "100000000", id="price is too high"),
    pytest.param("price", "1e999", id="price is beyond a float"),
    pytest.param("price", "1e-400", id="price is too small for a float"),
    pytest.param("price", "1" * 400, id="price has 400 digits"),
    pytest.param("price", "true", id="price is true"),
    pytest.param("price", '"12.50"', id="price is a string"),
    pytest.param("price", '"NaN"', id="price is the string NaN"),
    pytest.param("price", "[12.5]", id="price is a list"),
    pytest.param("quantity", "0", id="quantity is 0"),
    pytest.param("quantity", "1000001", id="quantity is too large"),
    pytest.param("quantity", "9223372036854775808", id="quantity is 2^63"),
    pytest.param("quantity", "1e999", id="quantity is beyond a float"),
    pytest.param("quantity", "1.5", id="quantity is no whole number"),
    pytest.param("quantity", "true", id="quantity is true"),
    pytest.param("quantity", '"3"', id="quantity is a string"),
    pytest.param("name", json.dumps("x" * 101), id="name has 101 characters"),
    pytest.param("name", "7", id="name is a number"),
    pytest.param("name", "true", id="name is true"),
    pytest.param("name", '["Keyboard"]', id="name is a list"),
    pytest.param("name", r'"Key\u0000board"', id="name has a NUL"),
    pytest.param("tags", json.dumps([str(n) for n in range(11)]), id="11 tags"),
    pytest.param("tags", '["usb", "usb"]', id="a tag comes twice"),
    pytest.param("tags", '["USB", "black", "usb"]', id="a tag comes twice, in another case"),
    pytest.param("tags", '"usb"', id="tags are a string"),
    pytest.param("tags", '{"0": "usb"}', id="tags are an object"),
    pytest.param("dimensions", "[360, 140]", id="dimensions are a list"),
    pytest.param("dimensions", '"360x140"', id="dimensions are a string"),
]


@pytest.mark.requirement(2)
@pytest.mark.parametrize("field, literal", WRONG_PRODUCTS)
def test_a_wrong_value_in_a_product_is_refused(client: Client, keyboard: Json, field: str, literal: str) -> None:
    assert_refused(send(client, "/products", with_value(keyboard, field, literal)), field)


@pytest.mark.requirement(2)
@pytest.mark.parametrize(
    "email",
    [
        pytest.param("ada@localhost", id="a domain without a dot"),
        pytest.param("o'brien+{x}@a.b", id="signs that the grammar has"),
        pytest.param("a@" + "x" * 63 + ".example", id="a label of 63 characters"),
        pytest.param("aa@" + ".".join(["x" * 62] * 4), id="254 characters"),
    ],
)
def test_an_email_within_the_grammar_is_taken(client: Client, ada: Json, email: str) -> None:
    assert client.post("/users", json=ada | {"email": email}).status_code == 201


WRONG_USERS = [
    pytest.param("age", "18", id="age is 18"),
    pytest.param("age", "151", id="age is 151"),
    pytest.param("age", "-20", id="age is negative"),
    pytest.param("age", "19.5", id="age is no whole number"),
    pytest.param("age", '"19"', id="age is a string"),
    pytest.param("age", "true", id="age is true"),
    pytest.param("email", '""', id="email is empty"),
    pytest.param("email", '"ada"', id="email has no @"),
    pytest.param("email", '"ada@"', id="email has no domain"),
    pytest.param("email", '"@example.com"', id="email has no name"),
    pytest.param("email", '"ada@@example.com"', id="email has two @"),
    pytest.param("email", '"ada@example..com"', id="email has an empty label"),
    pytest.param("email", '"ada@-example.com"', id="email has a label that begins with a hyphen"),
    pytest.param("email", '"ada lovelace@example.com"', id="email has a space"),
    pytest.param("email", '" ada@example.com"', id="email has a space before it"),
    pytest.param("email", r'"ada@example.com\n"', id="email has a line break after it"),
    pytest.param("email", '"Ada <ada@example.com>"', id="email has a name before it"),
    pytest.param("email", json.dumps("aaa@" + ".".join(["x" * 62] * 4)), id="email has 255 characters"),
    pytest.param("email", json.dumps("ada@" + "x" * 64 + ".example"), id="email has a label of 64 characters"),
    pytest.param("email", '"ada@example-.com"', id="email has a label that ends with a hyphen"),
    pytest.param("email", '"ada@example.com."', id="email has a dot at the end"),
    pytest.param("email", '"gr\u00f6\u00dfe@example.com"', id="email has letters beyond ASCII before the @"),
    pytest.param("email", '"ada@ex\u00e4mple.com"', id="email has letters beyond ASCII behind the @"),
    pytest.param("email", '"a,b@example.com"', id="email has a comma"),
    pytest.param("email", r'"\"ada\"@example.com"', id="email has quotes"),
    pytest.param("email", '["ada@example.com"]', id="email is a list"),
    pytest.param("password", json.dumps("x" * 11), id="password has 11 characters"),
    pytest.param("password", json.dumps("é" * 11), id="password has 11 characters in 22 bytes"),
    pytest.param("password", json.dumps("x" * 129), id="password has 129 characters"),
    pytest.param("password", "123456789012", id="password is a number"),
    pytest.param("password", r'"correct horse\u0000"', id="password has a NUL"),
    pytest.param("referral", '"A1B2C3D"', id="referral has 7 characters"),
    pytest.param("referral", '"A1B2C3D45"', id="referral has 9 characters"),
    pytest.param("referral", '"a1b2c3d4"', id="referral is in small letters"),
    pytest.param("referral", r'"A1B2C3D4\n"', id="referral has a line break after it"),
    pytest.param("referral", '"１２３４５６７８"', id="referral has full-width digits"),  # noqa: RUF001
    pytest.param("referral", "12345678", id="referral is a number"),
]


@pytest.mark.requirement(2)
@pytest.mark.parametrize("field, literal", WRONG_USERS)
def test_a_wrong_value_in_a_user_is_refused(client: Client, ada: Json, field: str, literal: str) -> None:
    assert_refused(send(client, "/users", with_value(ada, field, literal)), field)


@pytest.mark.requirement(2)
@pytest.mark.parametrize("literal", ["0", "10001", "1.5", "true", '"360"', "null", "[]"])
def test_a_wrong_value_in_a_nested_object_is_refused(client: Client, keyboard: Json, literal: str) -> None:
    dimensions = with_value({"height": 140}, "width", literal)

    assert_refused(send(client, "/products", with_value(keyboard, "dimensions", dimensions)), "dimensions.width")


@pytest.mark.requirement(2)
@pytest.mark.parametrize("literal", [json.dumps("x" * 31), "7", "null", "true", "{}", r'"\u0000"'])
def test_a_wrong_item_of_a_list_is_refused(client: Client, keyboard: Json, literal: str) -> None:
    tags = f'["usb", "black", {literal}]'

    assert_refused(send(client, "/products", with_value(keyboard, "tags", tags)), "tags.2")


# 3. Messages.


@pytest.mark.requirement(3)
def test_all_wrong_fields_of_a_product_are_named_at_once(client: Client) -> None:
    body = {
        "price": "free",
        "quantity": 0,
        "tags": ["usb", "", "black", 7],
        "dimensions": {"width": True, "depth": 1},
        "colour": "red",
    }

    response = client.post("/products", json=body)

    lists = {"tags.1", "tags.3"}
    nested = {"dimensions.width", "dimensions.height", "dimensions.depth"}
    assert_refused(response, "name", "price", "quantity", "colour", *lists, *nested)


@pytest.mark.requirement(3)
def test_all_wrong_fields_of_a_user_are_named_at_once(client: Client) -> None:
    body = {"name": " ", "email": "ada", "age": 18, "password": "short", "referral": "", "admin": True}

    response = client.post("/users", json=body)

    assert_refused(response, "name", "email", "age", "password", "referral", "admin")


@pytest.mark.requirement(3)
def test_the_code_tells_what_kind_of_fault_it_is(client: Client, keyboard: Json) -> None:
    body = without(keyboard, "name") | {"quantity": "three", "colour": "red"}

    errors = client.post("/products", json=body).json()["errors"]

    codes = {error["field"]: error["code"] for error in errors}
    assert len({codes["name"], codes["quantity"], codes["colour"]}) == 3


@pytest.mark.requirement(3)
def test_sixty_wrong_fields_are_sixty_names(client: Client, keyboard: Json) -> None:
    unknown = {f"unknown{number}": number for number in range(60)}

    assert_refused(client.post("/products", json=keyboard | unknown), *unknown)


@pytest.mark.requirement(3)
def test_an_empty_object_misses_all_that_is_required(client: Client) -> None:
    assert_refused(client.post("/products", json={}), "name", "price")
    assert_refused(client.post("/users", json={}), "name", "email", "age", "password")


@pytest.mark.requirement(3)
@pytest.mark.parametrize("body", ["[]", "null", "7", "true", '"text"', '[{"name": "Keyboard", "price": 1}]'])
@pytest.mark.parametrize("path", ["/products", "/users"])
def test_json_that_is_no_object_is_an_error_of_the_whole_body(client: Client, path: str, body: str) -> None:
    assert_refused(send(client, path, body), ROOT)


@pytest.mark.requirement(3)
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"   ", id="a blank"),
        pytest.param(b'{"name": "Keyboard", "price": 12.5', id="cut off"),
        pytest.param(b'{"name": "Keyboard", "price": 12.5}}', id="with more behind it"),
        pytest.param(b"{'name': 'Keyboard', 'price': 12.5}", id="in single quotes"),
        pytest.param(b'{"name": "Keyboard", "price": 012.5}', id="a number that begins with 0"),
        pytest.param(b"name=Keyboard&price=12.5", id="a form"),
        pytest.param(b'{"name": "Tastat\xfcr", "price": 12.5}', id="in Latin-1"),
        pytest.param(b"\x00\xff\xfe", id="bytes"),
        pytest.param('{"name": "Keyboard", "price": 12.5}'.encode("utf-16"), id="in UTF-16"),
        pytest.param('{"name": "Keyboard", "price": 12.5}'.encode("utf-16-le"), id="in UTF-16 without a mark"),
        pytest.param('{"name": "Keyboard", "price": 12.5}'.encode("utf-32"), id="in UTF-32"),
    ],
)
@pytest.mark.parametrize("path", ["/products", "/users"])
def test_a_body_that_is_no_json_is_400_in_the_same_shape(client: Client, path: str, body: bytes) -> None:
    response = send(client, path, body)

    assert response.status_code == 400
    assert wrong_fields(response) == {ROOT}


DISPUTED = [
    pytest.param("price", "NaN", id="NaN"),
    pytest.param("price", "Infinity", id="Infinity"),
    pytest.param("price", "-Infinity", id="-Infinity"),
    pytest.param("quantity", "NaN", id="NaN for a whole number"),
    pytest.param("price", "1e99999999999999999999", id="a number beyond all decimals"),
    pytest.param("quantity", "9" * 5000, id="a whole number of 5,000 digits"),
    pytest.param("name", r'"\ud800"', id="half a surrogate pair"),
    pytest.param("name", r'"\udc00\ud800"', id="a surrogate pair the wrong way round"),
    pytest.param("tags", "[" * 100_000 + "]" * 100_000, id="nested 100,000 levels deep"),
]


@pytest.mark.requirement(3)
@pytest.mark.parametrize("field, literal", DISPUTED)
def test_a_value_that_parsers_read_differently_is_refused_in_the_same_shape(
    client: Client, keyboard: Json, field: str, literal: str
) -> None:
    response = send(client, "/products", with_value(keyboard, field, literal))

    assert response.status_code in (400, 422)
    assert wrong_fields(response) in ({ROOT}, {field})


@pytest.mark.requirement(3)
@pytest.mark.parametrize(
    "body, named",
    [
        pytest.param('{"name": "A", "price": 1, "price": 2}', {ROOT, "price"}, id="in the body"),
        pytest.param('{"name": "A", "price": 1, "price": 1}', {ROOT, "price"}, id="with the same value"),
        pytest.param(
            '{"name": "A", "price": 1, "dimensions": {"width": 1, "width": 2, "height": 1}}',
            {ROOT, "dimensions", "dimensions.width"},
            id="in a nested object",
        ),
    ],
)
def test_a_name_that_comes_twice_is_refused_in_the_same_shape(client: Client, body: str, named: set[str]) -> None:
    response = send(client, "/products", body)

    assert response.status_code in (400, 422)
    assert wrong_fields(response) <= named


@pytest.mark.requirement(3)
@pytest.mark.parametrize("name", [r"\ud800", r"\u0000", "a.b", "\N{BELL}" * 5000, ""])
def test_an_odd_name_is_refused_in_the_same_shape(client: Client, name: str) -> None:
    response = send(client, "/products", f'{{"name": "A", "price": 1, "{name}": 1}}')

    assert response.status_code in (400, 422)
    assert wrong_fields(response)


@pytest.mark.requirement(3)
@pytest.mark.parametrize(
    "content_type", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonx", "json"]
)
def test_a_body_that_is_not_declared_as_json_is_415_in_the_same_shape(
    client: Client, keyboard: Json, content_type: str
) -> None:
    response = send(client, "/products", json.dumps(keyboard), content_type)

    assert response.status_code == 415
    assert wrong_fields(response) == {ROOT}


@pytest.mark.requirement(3)
@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON"])
def test_json_may_be_declared_in_any_way_that_http_has(client: Client, keyboard: Json, content_type: str) -> None:
    assert send(client, "/products", json.dumps(keyboard), content_type).status_code == 201


@pytest.mark.requirement(3)
def test_a_user_is_answered_without_the_password(client: Client, ada: Json) -> None:
    response = client.post("/users", json=ada | {"password": SECRET})

    assert response.status_code == 201
    assert not has_secret(response)
    assert "password" not in response.text


SECRETS = [
    pytest.param({"age": 18}, id="beside a wrong field"),
    pytest.param({"password": SECRET[:11]}, id="too short"),
    pytest.param({"password": SECRET * 9}, id="too long"),
    pytest.param({"password": SECRET + "\0"}, id="with a NUL"),
    pytest.param({"password": [SECRET]}, id="in a list"),
    pytest.param({"password": {"value": SECRET}}, id="in an object"),
    pytest.param({"passwort": SECRET}, id="in a field that nobody knows"),
    pytest.param({"profile": {"password": SECRET}}, id="in an object that nobody knows"),
    pytest.param({"email": SECRET}, id="in the field for the email address"),
    pytest.param({"email": f"{SECRET}@"}, id="in an email address"),
    pytest.param({"age": SECRET}, id="in the field for the age"),
    pytest.param({"referral": SECRET}, id="in the field for the referral"),
    pytest.param({"name": SECRET * 9}, id="in the field for the name"),
]


@pytest.mark.requirement(3)
@pytest.mark.parametrize("changes", SECRETS)
def test_a_refusal_does_not_repeat_a_secret_wherever_it_stands(client: Client, ada: Json, changes: Json) -> None:
    response = client.post("/users", json=ada | {"password": SECRET} | changes)

    assert_refused(response, *changes)
    assert not has_secret(response)


@pytest.mark.requirement(3)
@pytest.mark.parametrize("field", ["password", "age", "referral", "name", "email", "pin"])
def test_a_refusal_does_not_repeat_a_number(client: Client, ada: Json, field: str) -> None:
    response = client.post("/users", json=ada | {field: 271828182845})

    assert_refused(response, field)
    assert "2718" not in response.text


@pytest.mark.requirement(3)
@pytest.mark.parametrize("length", [7, 737])
def test_a_refusal_does_not_tell_how_long_a_password_was(client: Client, ada: Json, length: int) -> None:
    response = client.post("/users", json=ada | {"password": "x" * length})

    assert_refused(response, "password")
    assert str(length) not in response.text


@pytest.mark.requirement(3)
@pytest.mark.parametrize("field", ["name", "quantity", "tags", "dimensions"])
def test_a_refusal_of_a_product_does_not_repeat_values(client: Client, keyboard: Json, field: str) -> None:
    response = client.post("/products", json=keyboard | {field: {"password": SECRET}})

    assert response.status_code == 422
    assert not has_secret(response)


@pytest.mark.requirement(3)
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(f'{{"password": "{SECRET}"', id="cut off"),
        pytest.param(f'{{"password": "{SECRET}\\x"}}', id="with a wrong escape"),
        pytest.param(f'{{"password": {SECRET}}}', id="without quotes"),
        pytest.param(f'{{"password": "{SECRET}", "age": NaN}}', id="beside NaN"),
        pytest.param(f'{{"password": "{SECRET}\\ud800"}}', id="with half a surrogate pair"),
        pytest.param(f'{{"password": "{SECRET}", "password": "{SECRET}"}}', id="sent twice"),
        pytest.param(f'"{SECRET}"', id="alone"),
        pytest.param(f'["{SECRET}"]', id="in a list"),
        pytest.param(f"password={SECRET}", id="in a form"),
    ],
)
@pytest.mark.parametrize("content_type", ["application/json", "text/plain"])
def test_an_error_of_the_whole_body_does_not_repeat_a_secret(client: Client, body: str, content_type: str) -> None:
    response = send(client, "/users", body, content_type)

    assert response.status_code in (400, 415, 422)
    assert wrong_fields(response)
    assert not has_secret(response)
