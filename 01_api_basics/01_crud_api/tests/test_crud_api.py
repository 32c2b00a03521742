"""The specification of a product resource, requirement by requirement."""

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from httpx2 import Response

from grader.solution import Client, Solution

Create = Callable[..., Any]
Json = dict[str, Any]


def url(product: Json) -> str:
    return f"/products/{product['id']}"


def skus(client: Client) -> list[str]:
    return [product["sku"] for product in client.get("/products").json()]


def send_json(client: Client, method: str, path: str, text: str) -> Response:
    return client.request(method, path, content=text, headers={"Content-Type": "application/json"})


def with_value(product: Json, field: str, literal: str) -> str:
    """The product as JSON text, one field as written: json.dumps would not write some of them."""
    fields = {name: json.dumps(value) for name, value in product.items()} | {field: literal}
    return "{" + ", ".join(f'"{name}": {value}' for name, value in fields.items()) + "}"


# 1. The resource and its attributes.


@pytest.mark.requirement(1)
def test_a_created_product_has_an_id_and_all_that_was_sent(client: Client, keyboard: Json) -> None:
    response = client.post("/products", json=keyboard)

    assert response.is_success
    product = response.json()
    assert isinstance(product.pop("id"), int)
    assert product == keyboard


@pytest.mark.requirement(1)
def test_a_created_product_can_be_read(client: Client, create: Create) -> None:
    product = create()

    assert client.get(url(product)).json() == product


@pytest.mark.requirement(1)
def test_an_updated_product_is_read_with_its_new_values(client: Client, create: Create, keyboard: Json) -> None:
    product = create()

    client.put(url(product), json=keyboard | {"price": "39.00"})

    assert client.get(url(product)).json() == product | {"price": "39.00"}


@pytest.mark.requirement(1)
def test_a_deleted_product_is_gone_from_its_url_and_from_the_list(client: Client, create: Create) -> None:
    product = create()

    client.delete(url(product))

    assert client.get(url(product)).status_code == 404
    assert product["sku"] not in skus(client)


@pytest.mark.requirement(1)
def test_a_product_survives_a_restart_of_the_app(solution: Solution, tmp_path: Path, keyboard: Json) -> None:
    database = f"sqlite:///{tmp_path / 'shop.db'}"
    before = solution.serve(DATABASE_URL=database)
    product = before.post("/products", json=keyboard).json()
    before.stop()

    after = solution.serve(DATABASE_URL=database)

    assert after.get("/products").json() == [product]


@pytest.mark.requirement(1)
def test_stock_and_description_may_be_left_out(client: Client, keyboard: Json) -> None:
    needed = {name: keyboard[name] for name in ("sku", "name", "price")}

    product = client.post("/products", json=needed).json()

    assert product["stock"] == 0
    assert product["description"] is None


@pytest.mark.requirement(1)
@pytest.mark.parametrize("price", ["0.00", "0.10", "19.99", "12345678.90"])
def test_a_price_is_a_decimal_string_that_keeps_its_cents(client: Client, create: Create, price: str) -> None:
    product = create(price=price)

    assert product["price"] == price
    assert client.get(url(product)).json()["price"] == price


@pytest.mark.requirement(1)
@pytest.mark.parametrize(
    "text",
    [
        pytest.param("Tastatur für 日本 👋🏽 “quoted” O'Brien <b> %s", id="of all scripts"),
        pytest.param("  two lines,\n\tindented \n", id="with its spaces and line breaks"),
        pytest.param("x" * 100, id="of 100 characters"),
    ],
)
def test_text_comes_back_as_it_was_sent(client: Client, create: Create, text: str) -> None:
    product = create(name=text, description=text)

    stored = client.get(url(product)).json()
    assert (stored["name"], stored["description"]) == (text, text)


# 2. The endpoints.


@pytest.mark.requirement(2)
def test_the_list_is_empty_in_a_new_database(solution: Solution, tmp_path: Path) -> None:
    client = solution.serve(DATABASE_URL=f"sqlite:///{tmp_path / 'new.db'}")

    assert client.get("/products").json() == []


@pytest.mark.requirement(2)
def test_the_list_has_every_product(client: Client, create: Create, keyboard: Json) -> None:
    products = [create(sku=f"{keyboard['sku']}-{number}") for number in range(3)]

    listed = client.get("/products").json()

    assert [product for product in products if product not in listed] == []


@pytest.mark.requirement(2)
def test_put_replaces_so_what_it_leaves_out_goes_back_to_the_default(client: Client, create: Create) -> None:
    product = create()

    client.put(url(product), json={"sku": product["sku"], "name": "Keyboard II", "price": "59.90"})

    replaced = {"name": "Keyboard II", "price": "59.90", "stock": 0, "description": None}
    assert client.get(url(product)).json() == product | replaced


@pytest.mark.requirement(2)
def test_put_without_a_required_field_is_refused(client: Client, create: Create) -> None:
    product = create()

    response = client.put(url(product), json={"name": "Keyboard II"})

    assert response.status_code == 422
    assert client.get(url(product)).json() == product


@pytest.mark.requirement(2)
@pytest.mark.parametrize("content_type", ["application/json", "application/merge-patch+json"])
def test_patch_changes_only_what_it_names(client: Client, create: Create, content_type: str) -> None:
    product = create()

    response = client.patch(url(product), content='{"stock": 0}', headers={"Content-Type": content_type})

    assert response.json() == product | {"stock": 0}
    assert client.get(url(product)).json() == product | {"stock": 0}


@pytest.mark.requirement(2)
def test_patch_with_null_clears_the_description(client: Client, create: Create) -> None:
    product = create()

    client.patch(url(product), json={"description": None})

    assert client.get(url(product)).json() == product | {"description": None}


@pytest.mark.requirement(2)
def test_an_empty_patch_changes_nothing(client: Client, create: Create) -> None:
    product = create()

    response = client.patch(url(product), json={})

    assert response.status_code == 200
    assert response.json() == product


@pytest.mark.requirement(2)
def test_a_change_of_one_product_leaves_the_others_alone(client: Client, create: Create, keyboard: Json) -> None:
    product = create()
    other = create(sku=f"{keyboard['sku']}-other")

    client.patch(url(product), json={"name": "Changed"})
    client.put(url(product), json=keyboard | {"price": "1.00"})
    client.delete(url(product))

    assert client.get(url(other)).json() == other


# 3. The status codes.


@pytest.mark.requirement(3)
def test_creating_answers_201_and_location_leads_to_the_product(client: Client, keyboard: Json) -> None:
    response = client.post("/products", json=keyboard)

    assert response.status_code == 201
    assert client.get(response.headers["Location"]).json() == response.json()


@pytest.mark.requirement(3)
def test_reading_and_updating_answer_200(client: Client, create: Create, keyboard: Json) -> None:
    path = url(create())

    answers = [
        client.get("/products"),
        client.get(path),
        client.put(path, json=keyboard),
        client.patch(path, json={}),
    ]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 200]


@pytest.mark.requirement(3)
def test_deleting_answers_204_without_a_body_and_then_404(client: Client, create: Create) -> None:
    path = url(create())

    first, second = client.delete(path), client.delete(path)

    assert (first.status_code, first.content) == (204, b"")
    assert second.status_code == 404


@pytest.mark.requirement(3)
@pytest.mark.parametrize("of", ["the list", "a product"])
def test_head_answers_what_get_answers_without_the_body(client: Client, create: Create, of: str) -> None:
    product = create()
    path = "/products" if of == "the list" else url(product)

    head, get = client.head(path), client.get(path)

    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Type"] == get.headers["Content-Type"]
    assert head.headers.get("ETag") == get.headers.get("ETag")


@pytest.mark.requirement(3)
@pytest.mark.parametrize(
    "method, of, allowed",
    [
        pytest.param("DELETE", "the list", {"GET", "HEAD", "POST"}, id="the list"),
        pytest.param("POST", "a product", {"GET", "HEAD", "PUT", "PATCH", "DELETE"}, id="a product"),
    ],
)
def test_a_method_that_a_path_lacks_is_405_with_all_that_it_has(
    client: Client, create: Create, method: str, of: str, allowed: set[str]
) -> None:
    product = create()

    response = client.request(method, "/products" if of == "the list" else url(product))

    assert response.status_code == 405
    assert set(response.headers["Allow"].replace(" ", "").split(",")) >= allowed


@pytest.mark.requirement(3)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_a_taken_sku_is_409_and_changes_nothing(client: Client, create: Create, keyboard: Json, method: str) -> None:
    create()
    other = create(sku=f"{keyboard['sku']}-other", name="Mouse")

    response = client.request(method, "/products" if method == "POST" else url(other), json=keyboard)

    assert response.status_code == 409
    assert client.get(url(other)).json() == other
    assert skus(client).count(keyboard["sku"]) == 1


@pytest.mark.requirement(3)
def test_a_product_may_keep_its_own_sku(client: Client, create: Create, keyboard: Json) -> None:
    product = create()

    assert client.put(url(product), json=keyboard).status_code == 200


@pytest.mark.requirement(3)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_body_that_is_not_declared_as_json_is_415(
    client: Client, create: Create, keyboard: Json, method: str, content_type: str
) -> None:
    product = create()
    path = "/products" if method == "POST" else url(product)
    headers = {"Content-Type": content_type} if content_type else {}

    response = client.request(method, path, content=json.dumps(keyboard | {"name": "Other"}), headers=headers)

    assert response.status_code == 415
    assert client.get(url(product)).json() == product


@pytest.mark.requirement(3)
def test_the_etag_changes_with_every_change_and_only_then(client: Client, create: Create) -> None:
    path = url(create())

    first, again = client.get(path).headers["ETag"], client.get(path).headers["ETag"]
    client.patch(path, json={"stock": 2})
    changed = client.get(path).headers["ETag"]

    assert first == again
    assert first.startswith('"')
    assert changed != first


@pytest.mark.requirement(3)
@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_a_stale_if_match_is_412_and_changes_nothing(
    client: Client, create: Create, keyboard: Json, method: str
) -> None:
    path = url(create())
    stale = client.get(path).headers["ETag"]
    current = client.patch(path, json={"stock": 2}).json()

    body: Json = {} if method == "DELETE" else {"json": keyboard | {"stock": 9}}
    response = client.request(method, path, headers={"If-Match": stale}, **body)

    assert response.status_code == 412
    assert client.get(path).json() == current


@pytest.mark.requirement(3)
@pytest.mark.parametrize("form", ["{etag}", '"other", {etag}', "*"])
def test_a_current_if_match_lets_the_change_through(client: Client, create: Create, form: str) -> None:
    path = url(create())
    etag = client.get(path).headers["ETag"]

    response = client.patch(path, json={"stock": 2}, headers={"If-Match": form.format(etag=etag)})

    assert response.status_code == 200
    assert client.get(path).headers["ETag"] == response.headers["ETag"]


@pytest.mark.requirement(3)
def test_if_match_may_come_on_several_lines(client: Client, create: Create) -> None:
    path = url(create())
    headers = [("If-Match", '"other"'), ("If-Match", client.get(path).headers["ETag"])]

    assert client.patch(path, json={"stock": 2}, headers=headers).status_code == 200


@pytest.mark.requirement(3)
def test_forty_clients_at_once_are_all_answered_with_their_own_change(client: Client, create: Create) -> None:
    path = url(create())

    def edit(stock: int) -> tuple[int, object]:
        response = client.patch(path, json={"stock": stock})
        return response.status_code, response.json().get("stock", stock) == stock

    with ThreadPoolExecutor(40) as editors:
        answers = set(editors.map(edit, range(100, 180)))

    assert answers <= {(200, True), (409, True)}


@pytest.mark.requirement(3)
def test_of_ten_editors_with_the_same_etag_exactly_one_succeeds(client: Client, create: Create) -> None:
    path = url(create())
    rounds = []

    with ThreadPoolExecutor(10) as editors:
        for number in range(1, 6):
            etag = client.get(path).headers["ETag"]

            def edit(stock: int, etag: str = etag) -> int:
                return client.patch(path, json={"stock": stock}, headers={"If-Match": etag}).status_code

            rounds.append(sorted(editors.map(edit, range(10 * number, 10 * number + 10))))

    assert rounds == [[200] + [412] * 9] * 5


# 4. Errors and edges.


@pytest.mark.requirement(4)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE"])
def test_a_missing_product_is_404(client: Client, keyboard: Json, method: str) -> None:
    body: Json = {"json": keyboard} if method in ("PUT", "PATCH") else {}

    response = client.request(method, "/products/999999", **body)

    assert response.status_code == 404
    assert keyboard["sku"] not in skus(client)


@pytest.mark.requirement(4)
@pytest.mark.parametrize("product_id", ["0", "-1", "abc", "1.5", "9223372036854775808", "9" * 100, "%00"])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_an_id_that_cannot_be_one_is_refused(client: Client, method: str, product_id: str) -> None:
    response = client.request(method, f"/products/{product_id}")

    assert response.status_code in (400, 404, 422)


INVALID = [
    pytest.param("price", '"abc"', id="price is no number"),
    pytest.param("price", '"-0.01"', id="price is negative"),
    pytest.param("price", '"1.999"', id="price has three decimals"),
    pytest.param("price", '"NaN"', id="price is the text NaN"),
    pytest.param("price", '"Infinity"', id="price is the text Infinity"),
    pytest.param("price", "49.9", id="price is a JSON number"),
    pytest.param("price", "1e999", id="price is beyond a float"),
    pytest.param("price", '"1_000.00"', id="price has an underscore"),
    pytest.param("price", '"４９.９０"', id="price has full-width digits"),  # noqa: RUF001
    pytest.param("price", '"99999999999.00"', id="price is too large"),
    pytest.param("price", "null", id="price is null"),
    pytest.param("price", "[]", id="price is a list"),
    pytest.param("stock", "-1", id="stock is negative"),
    pytest.param("stock", "1.5", id="stock is no whole number"),
    pytest.param("stock", "9223372036854775808", id="stock is 2^63"),
    pytest.param("stock", "true", id="stock is true"),
    pytest.param("stock", '"3"', id="stock is text"),
    pytest.param("stock", "null", id="stock is null"),
    pytest.param("name", '""', id="name is empty"),
    pytest.param("name", '"  "', id="name is blank"),
    pytest.param("name", "7", id="name is a number"),
    pytest.param("name", json.dumps("x" * 101), id="name is too long"),
    pytest.param("name", r'"\u0000"', id="name has a NUL"),
    pytest.param("name", "null", id="name is null"),
    pytest.param("sku", '""', id="sku is empty"),
    pytest.param("sku", json.dumps("x" * 33), id="sku is too long"),
    pytest.param("description", "{}", id="description is an object"),
    pytest.param("description", json.dumps("x" * 2001), id="description is too long"),
    pytest.param("colour", '"red"', id="a field that nobody knows"),
    pytest.param("id", "7", id="an id of the client's"),
]


@pytest.mark.requirement(4)
@pytest.mark.parametrize("field, literal", INVALID)
def test_an_invalid_product_is_422_names_the_field_and_is_not_stored(
    client: Client, keyboard: Json, field: str, literal: str
) -> None:
    response = send_json(client, "POST", "/products", with_value(keyboard, field, literal))

    assert response.status_code == 422
    assert re.search(rf"\b{field}\b", response.text)
    assert keyboard["sku"] not in skus(client)


INVALID_CHANGES = [
    pytest.param("price", '"-0.01"', id="price is negative"),
    pytest.param("price", "null", id="price is null"),
    pytest.param("stock", "9223372036854775808", id="stock is 2^63"),
    pytest.param("stock", "null", id="stock is null"),
    pytest.param("name", '"  "', id="name is blank"),
    pytest.param("sku", '""', id="sku is empty"),
    pytest.param("sku", "null", id="sku is null"),
    pytest.param("colour", '"red"', id="a field that nobody knows"),
    pytest.param("id", "7", id="an id of the client's"),
]


@pytest.mark.requirement(4)
@pytest.mark.parametrize("field, literal", INVALID_CHANGES)
def test_an_invalid_change_is_422_and_changes_nothing(
    client: Client, create: Create, keyboard: Json, field: str, literal: str
) -> None:
    product = create()
    changed = with_value(keyboard | {"name": "Changed"}, field, literal)

    responses = [send_json(client, method, url(product), changed) for method in ("PUT", "PATCH")]

    assert [response.status_code for response in responses] == [422, 422]
    assert client.get(url(product)).json() == product


@pytest.mark.requirement(4)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
@pytest.mark.parametrize(
    "field, literal",
    [
        pytest.param("price", "NaN", id="price is NaN"),
        pytest.param("stock", "-Infinity", id="stock is -Infinity"),
        pytest.param("name", r'"\ud800"', id="name has half a character"),
    ],
)
def test_a_value_that_not_every_parser_reads_is_a_4xx_and_changes_nothing(
    client: Client, create: Create, method: str, field: str, literal: str
) -> None:
    product = create()
    changed = {**product, "sku": f"{product['sku']}-new"}
    del changed["id"]

    path = "/products" if method == "POST" else url(product)
    response = send_json(client, method, path, with_value(changed, field, literal))

    assert response.status_code in (400, 422)
    assert client.get(url(product)).json() == product
    assert changed["sku"] not in skus(client)


@pytest.mark.requirement(4)
@pytest.mark.parametrize("missing", ["sku", "name", "price"])
def test_a_product_without_a_required_field_is_422_and_names_it(client: Client, keyboard: Json, missing: str) -> None:
    response = client.post("/products", json={name: value for name, value in keyboard.items() if name != missing})

    assert response.status_code == 422
    assert re.search(rf"\b{missing}\b", response.text)


@pytest.mark.requirement(4)
@pytest.mark.parametrize(
    "text",
    [
        pytest.param('{"sku": ', id="cut off"),
        pytest.param("", id="empty"),
        pytest.param("[]", id="a list"),
        pytest.param("null", id="null"),
        pytest.param('"text"', id="a string"),
        pytest.param("[" * 100_000, id="deeply nested"),
        pytest.param('{"stock": ' + "9" * 5000 + "}", id="a number of 5,000 digits"),
    ],
)
def test_a_body_that_is_no_product_in_json_is_a_4xx_and_changes_nothing(
    client: Client, create: Create, text: str
) -> None:
    product = create()

    responses = [send_json(client, "POST", "/products", text)]
    responses += [send_json(client, method, url(product), text) for method in ("PUT", "PATCH")]

    assert [response.status_code for response in responses if response.status_code not in (400, 413, 422)] == []
    assert client.get(url(product)).json() == product
