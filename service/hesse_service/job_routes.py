"""The routes of jobs: what became of them, their answers, their events."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Path, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.responses import Response

from hesse_engine.errors import HesseError, InputError, StateError, rebuild
from hesse_service import codec, schemas
from hesse_service.exchange import JSON, TENSORS, request_id_of
from hesse_service.job_results import ResultResponse
from hesse_service.job_store import STATES, Job
from hesse_service.jobs import POLL_S, Jobs
from hesse_service.openapi import BINARY, CALL_ERRORS, KEYED, answers
from hesse_service.preferences import Preference
from hesse_service.problems import declared, problem
from hesse_service.security import owner_of

LIMIT, MOST = 20, 100  # jobs of a page
JobId = Annotated[str, Path(alias="id", description="The job's id.", json_schema_extra={"pattern": schemas.JOB_ID})]


def _jobs(request: Request) -> Jobs:
    jobs: Jobs = request.app.state.service.jobs
    return jobs


async def _found(request: Request, name: JobId) -> Job:
    return await _jobs(request).found(owner_of(request), name)


Found = Annotated[Job, Depends(_found)]


def document(job: Job, keep_s: float, request_id: str) -> dict[str, Any]:
    """The job as its owner sees it."""
    found: dict[str, Any] = {
        "id": job.id,
        "state": job.state,
        "operation": job.operation,
        "created": _date(job.created),
        "started": _date(job.started),
        "finished": _date(job.finished),
        "expires": None if job.finished is None else _date(job.finished + keep_s),
        "attempts": job.attempts,
        "progress": None if job.total is None else {"done": job.done, "total": job.total},
        "error": None if job.problem is None else problem(_error(job.problem), request_id),
    }
    found["links"] = {"self": path_of(job), "result": f"{path_of(job)}/result", "events": f"{path_of(job)}/events"}
    return found


def _date(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _error(text: str) -> HesseError:
    found = json.loads(text)
    error = rebuild(found["code"], found["message"], found["hint"], found["pointer"], found["node"])
    if not found.get("retryable", True):  # what costs more than a quota ever holds
        error.retry_after_s = math.inf
    return error


def path_of(job: Job) -> str:
    return f"/v1/jobs/{job.id}"


# ---- answers --------------------------------------------------------------------------------------------------------
async def accepted(jobs: Jobs, job: Job, preference: Preference, request_id: str) -> Response:
    """202 with the job; 200 with its answer where the client waits and it is finished."""
    headers = {"Location": path_of(job), "Preference-Applied": preference.applied}
    if job.is_finished and preference.wait_s is not None:
        response = await result(jobs, job)
        response.headers.update(headers)
        return response
    if not job.is_finished:
        headers["Retry-After"] = "1"
    return Response(_json(jobs, job, request_id), 202, headers, JSON)


async def result(jobs: Jobs, job: Job) -> Response:
    """The stored answer.

    Raises:
        StateError: `job-not-finished`, `job-canceled`, `job-expired`.
        HesseError: what the job failed with.
    """
    if job.problem is not None:
        raise _error(job.problem)
    if job.state == "canceled":
        raise StateError("job-canceled", "The job was canceled before it was finished.")
    if not job.is_finished:
        raise StateError("job-not-finished", f"The job is {job.state}.", hint="Ask again, or follow its events.")
    try:
        if job.state == "succeeded":
            return await asyncio.to_thread(ResultResponse, job, jobs.store.folder)
    except FileNotFoundError:  # it expired in this moment
        pass
    raise StateError("job-expired", "The result of this job was kept for its time and is gone.",
                     hint="Send the request again.")


def _json(jobs: Jobs, job: Job, request_id: str) -> bytes:
    return codec.encode(document(job, jobs.settings.job_keep_s, request_id))


async def _describe(request: Request, job: Found) -> Response:
    """The job's state, progress, times, and what it failed with."""
    headers = {} if job.is_finished else {"Retry-After": "1"}
    return Response(_json(_jobs(request), job, request_id_of(request)), headers=headers, media_type=JSON)


async def _list(request: Request) -> Response:
    """The jobs of the caller, newest first, in pages: `next` is the `after` of the next page."""
    jobs, owner = _jobs(request), owner_of(request)
    query = request.query_params
    state = query.get("state")
    if state is not None and state not in STATES:
        raise InputError("bad-request", f"The states are {', '.join(STATES)}.", pointer="/state")
    limit = query.get("limit", str(LIMIT))
    if not re.fullmatch(r"[0-9]{1,9}", limit) or not 1 <= int(limit) <= MOST:
        raise InputError("bad-request", f"limit must be a number from 1 to {MOST}.", pointer="/limit")
    after = query.get("after")
    number = None
    if after is not None:
        number = (await jobs.found(owner, after)).number
    page = await jobs.stored(jobs.store.page, owner, state, number, int(limit) + 1)
    shown, more = page[: int(limit)], len(page) > int(limit)
    documents = [document(j, jobs.settings.job_keep_s, request_id_of(request)) for j in shown]
    return Response(codec.encode({"jobs": documents, "next": shown[-1].id if more else None}), media_type=JSON)


async def _delete(request: Request, name: JobId) -> Response:
    """Cancel a job that is not finished, which ends its computation at once; remove one that is."""
    jobs = _jobs(request)
    job = await jobs.end(owner_of(request), name)
    if job is None:
        return Response(status_code=204)
    return Response(_json(jobs, job, request_id_of(request)), media_type=JSON)


async def _result(request: Request, job: Found) -> Response:
    """The answer, as a direct request would have got it; the job's own problem where it failed."""
    return await result(_jobs(request), job)


async def _events(request: Request, job: Found) -> AsyncIterator[ServerSentEvent]:
    """The job's events as they come: `state`, `progress` and `end`. `Last-Event-ID` goes on after that one."""
    jobs, owner = _jobs(request), owner_of(request)
    last = request.headers.get("last-event-id", "")
    seq = int(last) if re.fullmatch(r"[0-9]{1,9}", last) else 0
    while True:
        current = await jobs.stored(jobs.store.get, owner, job.id)
        for event in await jobs.stored(jobs.store.events, job.number, seq):
            seq = event.seq
            yield ServerSentEvent(event=event.kind, id=str(seq), data=event.data)
        if current is None or current.is_finished or jobs.is_released:
            return
        await asyncio.sleep(POLL_S)


# ---- routes ---------------------------------------------------------------------------------------------------------
def install(app: FastAPI) -> None:
    one = "/v1/jobs/{id}"
    unmodeled: dict[str, Any] = {"response_model": None}
    _add(app, "GET", "/v1/jobs", "list_jobs", "List jobs.", _list, answers(schemas.JobsAnswer, *KEYED, 404, 422), [
        _parameter("limit", "Jobs of a page.",
                   {"type": "integer", "minimum": 1, "maximum": MOST, "default": LIMIT}),
        _parameter("after", "Where the page starts: `next` of the page before.",
                   {"type": "string", "pattern": schemas.JOB_ID}),
        _parameter("state", "Only jobs of this state.", {"type": "string", "enum": list(STATES)}),
    ], **unmodeled)
    _add(app, "GET", one, "job", "Describe a job.", _describe, answers(schemas.JobDocument, *KEYED, 404), **unmodeled)
    _add(app, "DELETE", one, "delete_job", "Cancel or remove a job.", _delete, {
        **answers(schemas.JobDocument, *KEYED, 404), 204: {"description": "The job was finished; it is removed."},
    }, **unmodeled)
    _add(app, "GET", f"{one}/result", "job_result", "The answer of a job.", _result, {
        **answers(schemas.CallAnswer, *CALL_ERRORS, 410),
        206: {"description": "The bytes asked for by Range.", "content": dict.fromkeys(TENSORS, BINARY)},
    }, **unmodeled)
    _add(app, "GET", f"{one}/events", "job_events", "Follow a job.", _events, declared(*KEYED, 404), [
        {**_parameter("Last-Event-ID", "The id of the last event that was received.", {"type": "string"}),
         "in": "header"},
    ], response_class=EventSourceResponse,
        response_description="Server-sent events; `id` counts them, `data` is JSON. The stream ends after `end`.")


def _add(
    app: FastAPI, method: str, path: str, name: str, summary: str, endpoint: Callable[..., Any],
    responses: dict[int | str, dict[str, Any]], parameters: Sequence[dict[str, Any]] = (), **more: Any,
) -> None:
    """A route whose name, which metrics and logs tell, is the one of the document."""
    app.add_api_route(path, endpoint, methods=[method], operation_id=name, name=name, summary=summary, tags=["jobs"],
                      responses=responses, openapi_extra={"parameters": list(parameters)}, **more)


def _parameter(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}
