"""The API drawn for people: one page from the OpenAPI document, without a script and without an outside host."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any


def reference_page(document: Mapping[str, Any]) -> str:
    """Return the HTML page of an OpenAPI document: each route with who may ask it, what it takes and what it answers."""
    routes = "\n".join(
        _route(path, method, one) for path, methods in document["paths"].items() for method, one in methods.items()
    )
    shapes = document.get("components", {}).get("schemas", {})
    answers = "\n".join(_shape(name, one) for name, one in shapes.items())
    title = escape(document["info"]["title"])
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}: the API</title>
<link rel="stylesheet" href="/dashboard/page.css">
</head>
<body>
<header>
<h1>{title}: the API</h1>
<p class="quiet"><a href="/openapi.json">openapi.json</a> for machines, <a href="/">the page</a></p>
</header>
<main>
<section class="wide"><h2>Routes</h2>
{routes}
</section>
<section class="wide"><h2>Shapes</h2>
{answers}
</section>
</main>
</body>
</html>
"""


def _route(path: str, method: str, one: Mapping[str, Any]) -> str:
    who = one.get("x-role", "anybody")
    rows = "".join(
        f"<li><code>{escape(p['name'])}</code> ({p['in']}{', required' if p.get('required') else ''}): {_kind(p['schema'])} "
        f"{escape(p.get('description', ''))}</li>"
        for p in one.get("parameters", [])
    )
    body = one.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    if body is not None:
        rows += f"<li>body: {_kind(body)}</li>"
    said = "".join(f"<li>{code}: {_answer(answer)}</li>" for code, answer in one["responses"].items())
    told = escape(one.get("description") or one.get("summary", ""))
    return (
        f"<h3><code>{method.upper()} {escape(path)}</code></h3><p>{told} <small>({escape(who)})</small></p>"
        f"<details><summary>takes and answers</summary><ul>{rows}</ul><ul>{said}</ul></details>"
    )


def _answer(answer: Mapping[str, Any]) -> str:
    schema = next((c.get("schema") for c in answer.get("content", {}).values()), None)
    return f"{escape(answer.get('description', ''))} {_kind(schema) if schema else ''}"


def _shape(name: str, one: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<li><code>{escape(key)}</code>: {_kind(field)} {escape(field.get('description', ''))}</li>"
        for key, field in one.get("properties", {}).items()
    )
    return f"<h3 id='{escape(name)}'>{escape(name)}</h3><p>{escape(one.get('description', ''))}</p><ul>{rows}</ul>"


def _kind(schema: Mapping[str, Any]) -> str:
    return " or ".join(dict.fromkeys(_kinds(schema)))


def _kinds(schema: Mapping[str, Any]) -> Iterator[str]:
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        yield f"<a href='#{name}'>{name}</a>"
    for part in (*schema.get("anyOf", ()), *schema.get("allOf", ())):
        yield from _kinds(part)
    if "enum" in schema:
        yield ", ".join(f"<code>{escape(str(v))}</code>" for v in schema["enum"])
    elif schema.get("type") == "array":
        yield f"list of {_kind(schema.get('items', {}))}"
    elif "type" in schema:
        yield escape(str(schema.get("format", schema["type"])))
