"""Requests made up from the OpenAPI document: no answer is undeclared, none is a server error."""

from __future__ import annotations

import httpx2
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, CheckContext, GenerationMode, Response
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    missing_required_header,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from hesse_engine.derivatives import DERIVATIVES
from serving import Server


def no_server_error(context: CheckContext, response: Response, case: Case) -> None:
    """A tiny deadline that was asked for may pass; nothing else may fail on the server's side."""
    assert response.status_code < 500 or response.status_code == 504


def bad_data_is_rejected(context: CheckContext, response: Response, case: Case) -> bool | None:
    """What is too large is refused as that, whatever else is wrong with it."""
    return None if response.status_code == 413 else negative_data_rejection(context, response, case)


CHECKS = [no_server_error, status_code_conformance, content_type_conformance, response_schema_conformance,
          unsupported_method, missing_required_header, ignored_auth, bad_data_is_rejected]
FEW = settings(max_examples=8, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
               suppress_health_check=list(HealthCheck))


def test_the_service_keeps_to_its_document(server: Server, warm_client: httpx2.Client) -> None:
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    seen = set()
    for found in schema.get_all_operations():
        operation = found.ok()
        modes = [GenerationMode.POSITIVE]
        if operation.body:
            modes.append(GenerationMode.NEGATIVE)
        for mode in modes:

            @FEW
            @given(case=operation.as_strategy(generation_mode=mode))
            def check(case: Case) -> None:
                case.call_and_validate(checks=CHECKS, timeout=30)

            check()
        seen.add(operation.label)
    assert len(seen) == len(DERIVATIVES) + 14
