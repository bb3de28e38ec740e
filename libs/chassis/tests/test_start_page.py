"""The start page: HTML or JSON, whichever the client prefers."""

import pytest

from testkit.library import client_of, make_app

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ([], "application/json"),
        ([""], "application/json"),
        (["*/*"], "application/json"),
        (["application/json"], "application/json"),
        ([BROWSER], "text/html"),
        (["text/html"], "text/html"),
        (["TEXT/HTML ; Q=0.1"], "text/html"),
        (["text/html; charset=utf-8"], "text/html"),
        (["text/*"], "text/html"),
        (["application/xml", "text/html"], "text/html"),
        # Weights count, and not the order; JSON wins a draw.
        (["text/html, application/json"], "application/json"),
        (["application/json, text/html"], "application/json"),
        (["text/html, application/json;q=0.9"], "text/html"),
        (["application/json;q=0.2, text/html;q=0.3"], "text/html"),
        (["text/html;q=0.5, application/json"], "application/json"),
        (["text/html;q=0.5", "*/*;q=0.6"], "application/json"),
        # A weight of 0 excludes a type. The most specific range counts, wherever it stands.
        (["text/html;q=0"], "application/json"),
        (["text/html;q=0.000, */*"], "application/json"),
        (["*/*, text/html;q=0"], "application/json"),
        (["text/*, text/html;q=0"], "application/json"),
        (["text/html, text/*;q=0"], "text/html"),
        (["*/*, application/*;q=0"], "text/html"),
        (["*/*, application/json;q=0"], "text/html"),
        (["text/html;q=0, application/json;q=0"], "application/json"),
        # Other types, and what is no weight.
        (["text/html-x, xtext/html"], "application/json"),
        (["text/html;q=2"], "application/json"),
        (["text/html;q=nan, text/html;q=x, text/html;q="], "application/json"),
    ],
)
async def test_the_start_page_is_of_the_type_that_the_client_prefers(accept: list[str], media_type: str) -> None:
    async with client_of(make_app()) as client:
        del client.headers["accept"]
        answer = await client.get("/", headers=[("Accept", each) for each in accept])
        assert answer.status_code == 200
        assert answer.headers["content-type"].partition(";")[0] == media_type
